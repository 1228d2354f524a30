"""`python -m storycell`: the command line."""

import sys

from storycell.cli.main import main

sys.exit(main())
