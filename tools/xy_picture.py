"""Draw the grid of the workflow "Find a setting on CPU" in a real ComfyUI, for the README.

    build/venv/bin/python tools/xy_picture.py --output docs/images/xy.png

Its times mean something only when nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from PIL import Image

from comfyui_runner import open_comfyui
from comfyui_tree import ROOT, find_comfyui
from demo_picture import save_small
from progress import say
from workflow_prompt import as_prompt

WORKFLOW = ROOT / "workflows" / "Find a setting on CPU.json"
LARGEST_FILE = 300_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    chosen = parser.parse_args()
    with open_comfyui(find_comfyui(), [ROOT]) as runner:
        prompt = as_prompt(runner.object_info(), json.loads(WORKFLOW.read_text(encoding="utf-8")))
        result = runner.queue(prompt)
        if result.status != "success":
            say(f"ComfyUI did not draw the grid: {result.error}")
            return 1
        with Image.open(runner.images(result)[0]) as picture:
            save_small(picture.convert("RGB"), chosen.output, LARGEST_FILE)
    say(f"Written: {chosen.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
