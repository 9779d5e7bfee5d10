"""The two ways in which a data set can fail to load."""


class DataUnavailable(RuntimeError):
    """No copy of the data set can be had here: not in a folder, not in the cache, not over the network.

    A chapter catches it, continues on a stand-in and says so. The message is one line: what, where it was looked for,
    how to get it.
    """


class DataDamaged(RuntimeError):
    """A file in ``$REPGEOM_DATA`` is not the file this book was checked with.

    Nothing replaces a file of that folder and nothing stands in for it: its owner decides. The message is one line and
    names the file.
    """
