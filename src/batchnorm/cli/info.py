"""``batchnorm info``."""

__all__ = ["info"]


def info() -> int:
    """Show the version, the native library and which path serves which dtype and device."""
    import batchnorm

    print(batchnorm.info())
    return 0
