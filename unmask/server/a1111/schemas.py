"""The bodies of ``/sdapi/v1``, as its clients send them, and the answers that they read."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from unmask.server.http.bodies import Finite

# Of the many fields that clients send at every request, those that could change nothing here:
# other samplers' numbers, where A1111 keeps its files, how it crops, and parts of what is off.
_HINTS = """
denoising_strength do_not_save_grid do_not_save_samples eta firstphase_height firstphase_width
force_task_id hr_checkpoint_name hr_negative_prompt hr_prompt hr_resize_x hr_resize_y
hr_sampler_name hr_scale hr_scheduler hr_second_pass_steps hr_upscaler image_cfg_scale
include_init_images initial_noise_multiplier inpaint_full_res inpaint_full_res_padding
inpainting_fill override_settings_restore_afterwards s_churn s_min_uncond s_noise s_tmax s_tmin
save_images script_args seed_resize_from_h seed_resize_from_w send_images subseed
"""
HINTS = frozenset(_HINTS.split())


class TextToImage(BaseModel):
    """The body of txt2img. Absent and null both mean: the default. A field that is not listed is
    ignored, and the answer's info says so, unless it could change nothing."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
    )

    prompt: str = ""
    negative_prompt: str | None = None
    seed: int | None = Field(default=None, description="image i has seed + i; -1: a random one")
    steps: int | None = None
    cfg_scale: Finite | None = Field(default=None, description="the guidance scale")
    width: int | None = None
    height: int | None = None
    batch_size: int | None = Field(default=None, ge=1, description="of the images, with n_iter")
    n_iter: int | None = Field(default=None, ge=1, description="times batch_size: so many images")
    sampler_name: str | None = Field(default=None, description="a scheduler, or ignored")
    sampler_index: str | None = Field(default=None, description="the same, if there is none")
    scheduler: str | None = Field(default=None, description="a mask schedule, or ignored")
    override_settings: dict[str, Any] | None = Field(
        default=None, description="sd_model_checkpoint alone"
    )
    script_name: str | None = Field(default=None, description="null or empty")
    alwayson_scripts: dict[str, Any] | None = Field(default=None, description="null or empty")

    @property
    def images(self) -> int:
        """How many are asked for."""
        return (self.batch_size or 1) * (self.n_iter or 1)

    @property
    def echo(self) -> dict[str, Any]:
        """What was sent, without its pictures."""
        sent = self.model_dump(exclude_unset=True)
        return {name: value for name, value in sent.items() if name not in ("init_images", "mask")}


class ImageToImage(TextToImage):
    """The body of img2img."""

    init_images: list[str] = Field(
        min_length=1, max_length=1, description="in base 64, as a data URL or not"
    )
    mask: str | None = Field(default=None, description="likewise; white is drawn anew")
    mask_blur: int | None = Field(default=None, ge=0, description="px inside the mask; 4 if absent")
    inpainting_mask_invert: int | None = Field(default=None, description="1: black is drawn anew")
    denoising_strength: Finite | None = Field(
        None, description="share of the tokens that are drawn anew (0, 1]; 0.75 if absent"
    )


class Images(BaseModel):
    """The answer to both: png files in base 64, what was sent, and a JSON text about all."""

    images: list[str]
    parameters: dict[str, Any]
    info: str


class State(BaseModel):
    """Where the sender's oldest request stands."""

    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    job_count: int = Field(default=0, description="requests of the sender on their way")
    job_timestamp: str = "0"
    job_no: int = Field(default=0, description="images of it that are done")
    sampling_step: int = Field(default=0, description="of all its images")
    sampling_steps: int = 0


class Progress(BaseModel):
    """How far the sender's oldest request is; 0 if there is none."""

    progress: float = 0.0
    eta_relative: float = Field(default=0.0, description="seconds")
    state: State = State()
    current_image: str | None = Field(default=None, description="a preview: png in base 64")
    textinfo: None = None


class Model(BaseModel):
    """A model that can be asked for by its title."""

    title: str
    model_name: str
    hash: str | None = None
    sha256: str | None = None
    filename: str = Field(description="its name again: where it lies is nobody's business")
    config: str | None = None


class Sampler(BaseModel):
    """A scheduler of the model."""

    name: str
    aliases: list[str] = []
    options: dict[str, str] = {}


class Scheduler(BaseModel):
    """A mask schedule of the model."""

    name: str
    label: str
    aliases: list[str] = []
    default_rho: float = -1.0
    need_inner_model: bool = False


class Scripts(BaseModel):
    """There are none."""

    txt2img: list[str] = []
    img2img: list[str] = []


class Options(BaseModel):
    """What can be chosen: the model that the sender's requests are for."""

    model_config = ConfigDict(extra="allow", frozen=True)

    sd_model_checkpoint: str | None = None
    samples_format: str | None = None


class Nothing(BaseModel):
    """Clients read JSON everywhere."""
