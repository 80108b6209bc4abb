"""`python -m helix_cli` and the console script `helix`."""

from helix_cli.app import app


def main() -> None:
    """Run the program; it ends in SystemExit."""
    app(prog_name="helix")


if __name__ == "__main__":
    main()
