"""Every error a user can meet, and the exit code that each one carries.

    EmbftError                    1   a bug of ours unless a subclass says otherwise
    ├── ConfigError               2   the config, the environment or the command line is wrong
    │   └── StorageRefused        2   S3 said no: credentials, bucket, rights, clock
    │       └── ObjectMissing     2   S3 has no such object
    ├── DataRejected              3   the data or the model was rejected; never retried
    └── TemporaryError           75   something is away for now; the retry policy tries again
        ├── StorageUnavailable   75   S3 did not answer, or answered 5xx
        │   └── ObjectChanged    75   an object is no longer the one that was listed
        └── ChannelAway          75   a channel of alerts did not answer, or asked for patience

A message is one sentence that names what was wrong, the value, the rule, and where to change it.
"""

EXIT_OK = 0


class EmbftError(Exception):
    """Base of every error that embft raises on purpose."""

    exit_code = 1


class ConfigError(EmbftError):
    """The config, the environment or the command line is wrong: a person must change it."""

    exit_code = 2


class StorageRefused(ConfigError):
    """S3 answered and refused: wrong credentials, missing bucket, missing rights, a clock that is off."""


class ObjectMissing(StorageRefused):
    """S3 answered that there is no such object."""


class DataRejected(EmbftError):
    """The data or the model was examined and rejected; trying again with the same input cannot help."""

    exit_code = 3


class TemporaryError(EmbftError):
    """Something is away for now (S3, MLflow, a pre-empted pod): the same command may succeed later."""

    exit_code = 75


class StorageUnavailable(TemporaryError):
    """S3 did not answer in time, or answered with a server error, after the bounded retries."""


class ObjectChanged(StorageUnavailable):
    """An object was replaced or removed after it was listed: a new listing helps, reading again does not."""


class ChannelAway(TemporaryError):
    """A channel of alerts did not answer, or asked for patience: what else is meant for it would fail alike now."""
