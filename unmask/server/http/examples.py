"""An example for every schema of the document, so that /docs shows what is really sent."""

from collections.abc import Callable
from typing import Any

JSON = "application/json"
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJ..."
DATA_URL = f"data:image/png;base64,{PICTURE}"
APPLE = {"prompt": "a red apple", "steps": 12, "seed": 7}
USAGE = {
    "input_tokens": 5,
    "input_tokens_details": {"text_tokens": 5, "image_tokens": 0},
    "output_tokens": 256,
    "total_tokens": 261,
}
DATA = {"b64_json": PICTURE, "seed": 7, "image_index": 0}
TIMINGS = {"queue": 0.001, "generate": 0.084, "encode": 0.002}
ERROR = {
    "message": "steps 0 is not in 1..256",
    "type": "invalid_request_error",
    "param": "steps",
    "code": "invalid_value",
}
CARD = {
    "id": "storybook",
    "object": "model",
    "created": 1780000000,
    "owned_by": "unmask",
    "state": "loaded",
    "size_policy": "exact",
    "max_edit_images": 1,
    "max_edit_pixels": 24000000,
    "max_drawn_pixels": 1048576,
    "max_body_bytes": 1048576,
    "max_upload_bytes": 20971520,
    "max_seconds": 300.0,
    "bounds": {"steps": {"minimum": 1, "maximum": 256}},
    "size": "128x128",
    "sizes": ["128x128", "64x64"],
}
STATE = {"job": "txt2img", "job_count": 1, "sampling_step": 6, "sampling_steps": 12}
JOB = {
    "id": "job_8f14e45fceea167a5a36dedd",
    "object": "job",
    "kind": "images.generation",
    "status": "in_progress",
    "progress": 50,
    "created_at": 1780000000,
    "started_at": 1780000001,
}
OBJECT = {"noun": "apple", "colours": ["red"], "x": 34, "y": 30, "side": 31.5, "whole": 0.99}
UNKNOWN = {"word": "aple", "nearest": ["apple", "apples", "purple"]}
WARNING = {
    "code": "unknown_words",
    "param": "prompt",
    "message": "prompt: storybook was not taught 'aple' (nearest: apple, apples, purple)",
    "words": [UNKNOWN],
}

CAR = {"prompt": "a red car moves to the right", "seconds": "2", "seed": 7}
VIDEO = {
    "id": "video_8f14e45fceea167a5a36dedd",
    "object": "video",
    "status": "in_progress",
    "progress": 50,
    "created_at": 1780000000,
    "model": "storybook-clips",
    "prompt": CAR["prompt"],
    "size": "64x64",
    "seconds": "2.125",
    "frames": 17,
    "fps": 8,
    "seed": 7,
    "output_format": "mp4",
    "scheduler": "halton",
    "steps": 12,
}

# By the names of the document's components.
EXAMPLES: dict[str, Any] = {
    "Bound": {"minimum": 1, "maximum": 256},
    "EditSummary": {"kind": "inpaint", "feather": 4, "sha256": "9f86d081884c7d65"},
    "ErrorBody": {"error": ERROR},
    "JudgedObject": OBJECT,
    "PictureVerdict": {"right": True, "faults": [], "objects": [OBJECT], "background": "blue"},
    "JobAnswer": JOB,
    "JobDeleted": {"id": JOB["id"], "object": "job.deleted", "deleted": True},
    "JobList": {
        "object": "list",
        "data": [JOB],
        "first_id": JOB["id"],
        "last_id": JOB["id"],
        "has_more": False,
    },
    "WebhookAnswer": {"object": "webhook", "url": "https://example.com/unmask"},
    "ErrorDetail": ERROR,
    "ImageAnswer": {
        "created": 1780000000,
        "data": [DATA],
        "background": "opaque",
        "output_format": "png",
        "size": "64x64",
        "usage": USAGE,
        "model": "storybook",
        "seed": 7,
        "timings": TIMINGS,
        "subjects": [["red", "apple"]],
        "scheduler": "p2",
        "steps": 12,
    },
    "ImageData": DATA,
    "Images": {"images": [PICTURE], "parameters": APPLE, "info": '{"seed": 7, "all_seeds": [7]}'},
    "Model": {"title": "storybook", "model_name": "storybook", "filename": "storybook"},
    "ModelCard": CARD,
    "ModelList": {"object": "list", "data": [CARD]},
    "Nothing": {},
    "Options": {"sd_model_checkpoint": "storybook", "samples_format": "png"},
    "Progress": {"progress": 0.5, "eta_relative": 0.04, "state": STATE, "current_image": PICTURE},
    "RequestWarning": WARNING,
    "Sampler": {"name": "halton"},
    "Scheduler": {"name": "cosine", "label": "cosine"},
    "Scripts": {"txt2img": [], "img2img": []},
    "State": STATE,
    "Status": {"status": "ready"},
    "Timings": TIMINGS,
    "UnknownWord": UNKNOWN,
    "Usage": USAGE,
    "Video": VIDEO,
    "VideoDeleted": {"id": VIDEO["id"], "object": "video.deleted", "deleted": True},
    "VideoList": {
        "object": "list",
        "data": [VIDEO],
        "first_id": VIDEO["id"],
        "last_id": VIDEO["id"],
        "has_more": False,
    },
}

# Of bodies, by their paths: fields of forms, to which come the files, or JSON.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/images/generations": APPLE,
    "/v1/images/edits": {"prompt": "a green apple", "strength": 0.6},
    "/v1/images/outpaint": {"prompt": "a red apple on a table", "left": 32},
    "/v1/images/variations": {"strength": 0.4},
    "/v1/videos": CAR,
    "/v1/videos/sync": CAR,
    "/v1/videos/edits": {"prompt": "a green car", "box": [0, 0, 32, 64]},
    "/v1/videos/extensions": {"prompt": "a red car stops", "seconds": "1"},
    "/v1/videos/{video_id}/remix": {"prompt": "a green car moves to the right"},
    "/sdapi/v1/txt2img": APPLE | {"width": 64, "height": 64, "sampler_name": "halton"},
    "/sdapi/v1/img2img": {"prompt": "a green apple", "init_images": [DATA_URL]},
    "/v1/webhook": {"url": "https://example.com/unmask"},
    "/sdapi/v1/options": {"sd_model_checkpoint": "storybook"},
}
# What else bodies in JSON may ask for, by what it is.
MORE: dict[str, dict[str, Any]] = {
    "/v1/videos": {
        "between two pictures": CAR
        | {"input_reference": {"image_url": DATA_URL}, "last_reference": {"image_url": DATA_URL}},
        "pictures at frames": CAR
        | {"at": [{"frame": frame, "image_url": DATA_URL} for frame in (0, 8, 16)]},
    },
    "/v1/videos/edits": {
        "outpainting": {
            "prompt": "a red car",
            "keep": [0, 0, 32, 64],
            "last_keep": [32, 0, 64, 64],
        },
        "between edited frames": {
            "prompt": "a green car",
            "share": 0.4,
            "at": [{"frame": frame, "image_url": DATA_URL} for frame in (0, 16)],
        },
    },
}
FILES: dict[str, dict[str, Any]] = {
    "multipart/form-data": {"image": "apple.png", "video": "car.mp4"},
    JSON: {
        "images": [{"image_url": DATA_URL}],
        "video": {"id": VIDEO["id"]},
    },
}


def with_examples(make_document: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Makes the document, with an example in every schema."""

    def make() -> dict[str, Any]:
        document = make_document()
        for name, schema in document["components"]["schemas"].items():
            if name in EXAMPLES:  # a test says that all are
                schema["example"] = EXAMPLES[name]
        for path, example in BODIES.items():
            methods = document["paths"][path].values()
            body = next(method["requestBody"] for method in methods if "requestBody" in method)
            contents = body["content"]
            for media_type, content in contents.items():
                needed = content["schema"].get("required", [])
                files = {k: v for k, v in FILES[media_type].items() if k in needed}
                more = MORE.get(path, {}) if media_type == JSON else {}
                if more:
                    bodies = {"plain": example} | more
                    content["examples"] = {k: {"value": v | files} for k, v in bodies.items()}
                else:
                    content["example"] = example | files
        return document

    return make
