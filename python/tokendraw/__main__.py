# SPDX-License-Identifier: Apache-2.0
"""`python -m tokendraw` is the command line."""

from tokendraw.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
