"""`python -m flows` is the command `vaflow`."""

import sys

from flows.cli import main

sys.exit(main())
