"""Builds `src/storycell/web/abcjs.js`: what draws ABC tunes, out of the npm package abcjs, by esbuild.

    python tools/abcjs.py

It takes npm, and the two packages in the versions below. Only what draws is taken; how it sounds, `web/tunes.js` does.
abcjs styles elements by attributes, and adds a style sheet for dragging; a strict content security policy refuses both.
So attributes become properties of the elements' `style`, which it lets pass, and the sheet is left out.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ABCJS, ESBUILD = "6.7.2", "0.25.12"
OUT = Path(__file__).parents[1] / "src" / "storycell" / "web" / "abcjs.js"
ENTRY = 'module.exports = { renderAbc: require("abcjs/src/api/abc_tunebook_svg.js") };\n'
_STYLED = re.compile(r"(\w[\w.]*)\.setAttribute\(['\"]style['\"], (.*)\);?$", re.MULTILINE)
_STYLE_SHEET = re.compile(r"(Svg\.prototype\.insertStyles = function \(styles\) \{)")
LICENCE = "// abcjs {}, drawing only, by tools/abcjs.py. https://www.abcjs.net\n/*\n{}\n*/\n"


def main() -> int:
    """Build it anew."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        install = ["npm", "install", "--no-fund", "--no-audit", f"abcjs@{ABCJS}", f"esbuild@{ESBUILD}"]
        subprocess.run(install, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        package = folder / "node_modules" / "abcjs"
        for path in (package / "src").rglob("*.js"):
            text = path.read_text(encoding="utf-8")
            changed = _STYLE_SHEET.sub(r"\1 return;", _STYLED.sub(r"\1.style.cssText = \2;", text))
            path.write_text(changed, encoding="utf-8")
        (folder / "entry.js").write_text(ENTRY)
        bundle = ["npx", "esbuild", "entry.js", "--bundle", "--minify", "--format=iife", "--global-name=ABCJS"]
        bundle += ["--legal-comments=none", "--charset=ascii", "--log-level=error"]
        script = subprocess.run(bundle, cwd=folder, check=True, capture_output=True, text=True).stdout
        licence = (package / "LICENSE.md").read_text(encoding="utf-8").strip()
    if "</script" in script.lower() or 'setAttribute("style"' in script:
        raise SystemExit("what was built cannot stand in a page with a strict policy")
    OUT.write_text(LICENCE.format(ABCJS, licence) + script, encoding="utf-8")
    print(f"{OUT}: {OUT.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
