"""The flags of `tensorflow_model_server` that have no effect here, and those that are refused.

A command line for it works here, or says why not.
"""

import argparse
from typing import Final

from keras_ae.errors import ConfigurationError

_NO_EFFECT: Final = {
    "rest_api_num_threads": "REST has one event loop",
    "grpc_max_threads": "gRPC has one event loop",
    "num_load_threads": "one version is loaded at a time, in a thread of its own",
    "num_unload_threads": "each version is unloaded in the thread that has loaded it",
    "flush_filesystem_caches": "the caches of the file system are left to the operating system",
    "remove_unused_fields_from_bundle_metagraph": "only the signatures are kept",
    "enable_model_warmup": "warm-up requests are always run",
    "num_request_iterations_for_warmup": "warm-up requests are run once",
    "enable_grpc_healthcheck_service": "the health service is always on",
    "enable_signature_method_name_check": "only Predict is answered",
    "enable_profiler": "there is no profiler service",
    "num_tflite_pools": "there are no TensorFlow Lite models",
    "num_tflite_interpreters_per_pool": "there are no TensorFlow Lite models",
    "xla_cpu_compilation_enabled": "XLA is always available to models",
    "xla_gpu_compilation_enabled": "XLA is always available to models",
    "skip_initialize_tpu": "there are no TPUs",
}
_REFUSED: Final = {
    "prefer_tflite_model": "it cannot run TensorFlow Lite models",
    "saved_model_tags": "it loads the graph with the tag 'serve' only",
    "mixed_precision": "it computes in the precision that the model was exported with",
    "per_process_gpu_memory_fraction": "TensorFlow has no such setting in Python: set the "
    "environment variable TF_FORCE_GPU_ALLOW_GROWTH=true",
    "tensorflow_session_config_file": "it has no session: use --tensorflow_intra_op_parallelism "
    "and --tensorflow_inter_op_parallelism",
    "platform_config_file": "it has one platform, tensorflow",
    "thread_pool_factory_config_file": "its thread pools are TensorFlow's own",
    "enable_per_model_batching_parameters": "all models share --batching_parameters_file",
    "rest_api_enable_cors_support": "it refuses requests from pages of other origins, which could "
    "otherwise reach it on loopback",
    "use_alts_credentials": "it is not on Google Cloud: use --ssl_config_file",
}
_NEUTRAL_VALUES: Final = ("", "0", "0.0", "false", "serve")
"""Values that turn a refused flag off."""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the flags, which take any value; those that are not given are absent when parsed."""
    for title, flags in (("without an effect", _NO_EFFECT), ("refused", _REFUSED)):
        group = parser.add_argument_group(f"flags of tensorflow_model_server that are {title}")
        for name, reason in flags.items():
            group.add_argument(
                f"--{name}", nargs="?", const="true", default=argparse.SUPPRESS, help=reason
            )


def check(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Returns a line for the log for each given flag that has no effect.

    Raises:
        ConfigurationError: if the effect of a given flag would be missed.
    """
    given = vars(arguments)
    for name, reason in _REFUSED.items():
        if given.get(name, "").lower() not in _NEUTRAL_VALUES:
            raise ConfigurationError(f"--{name} is not supported by the local server: {reason}")
    return tuple(
        f"--{name} has no effect: {reason}" for name, reason in _NO_EFFECT.items() if name in given
    )
