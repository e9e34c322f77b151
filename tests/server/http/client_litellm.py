"""LiteLLM, unchanged, against the server at BASE_URL: see test_other_clients.py. It runs in an
environment of its own, whose libraries are not those of the project."""

import asyncio
import io
import os
from typing import Any

import litellm
from PIL import Image

GIVEN: dict[str, Any] = {
    "model": "openai/storybook",
    "api_base": os.environ["BASE_URL"],
    "api_key": "none",
    "max_retries": 0,
}


def _picture(colour: tuple[int, int, int, int]) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.new("RGBA", (40, 24), colour).save(buffer, "png")
    buffer.seek(0)
    buffer.name = "image.png"
    return buffer


async def _cancel() -> None:
    task = asyncio.create_task(litellm.aimage_generation(prompt="cat", **GIVEN))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert len((await litellm.aimage_generation(prompt="cat", **GIVEN)).data) == 1


def main() -> None:
    """Draw, edit with a mask, be refused, cancel."""
    litellm.suppress_debug_info = True  # which it prints where our words are read
    assert len(litellm.image_generation(prompt="cat", n=2, **GIVEN).data) == 2
    print("drawn")
    image, mask = _picture((255, 0, 0, 255)), _picture((0, 0, 0, 0))
    assert litellm.image_edit(image=image, mask=mask, prompt="cat", **GIVEN).data[0].b64_json
    print("edited")
    try:
        litellm.image_generation(prompt="cat", scheduler="haltom", **GIVEN)
    except litellm.BadRequestError as error:
        told = str(error)
    assert "did you mean 'halton'" in told
    try:
        litellm.image_generation(prompt="cat " * 30, **GIVEN)
    except litellm.ContextWindowExceededError:  # as it reads the code prompt_too_long
        print("refused")
    asyncio.run(_cancel())
    print("cancelled")


if __name__ == "__main__":
    main()
