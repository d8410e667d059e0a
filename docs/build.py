"""Rebuild the pictures and tables of docs/: python docs/build.py (or make docs)."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.argv = ["contact_sheet.py", str(HERE / "animals.png")]
runpy.run_path(str(HERE.parent / "examples" / "contact_sheet.py"), run_name="__main__")
