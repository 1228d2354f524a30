"""`python -m storycell`: the command line."""

import sys

from storycell.cli import main

sys.exit(main())
