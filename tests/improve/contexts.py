"""What improvements are given in tests: samples, and nothing that calibrates again."""

from tfq.improve import Context


def context(fit, check, **options):
    def never(prepared):
        raise AssertionError("nothing is calibrated again")

    def progress(what, done, total):
        assert total is None or done <= total, what
        if what.startswith("Trying ") and total is not None:
            assert done < total, f"{what}: one more was tried"

    given = {"recalibrate": never, "budget": 1e10, "progress": progress}
    return Context(fit, check, **{**given, **options})
