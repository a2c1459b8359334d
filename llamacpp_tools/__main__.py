"""`python -m llamacpp_tools` is `llt`."""

from llamacpp_tools.cli.main import main

if __name__ == "__main__":
    main()
