"""``python -m orrery``: the command line without the script, as the local engine starts its probes."""

from orrery.cli.main import run

if __name__ == "__main__":
    run()
