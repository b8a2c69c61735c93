"""Patches of TFX, one context manager each: outside of its block TFX is as installed.

`tests/pipeline/runners/test_tfx_patches.py` shows for each of them the fault of the unpatched TFX,
so that it fails for a version that does not need the patch any more, or no longer fits it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration.portable import cache_utils, launcher
from tfx.orchestration.portable.beam_executor_operator import BeamExecutorOperator
from tfx.proto.orchestration import executable_spec_pb2, placeholder_pb2

Artifacts = Mapping[str, Sequence[Any]]
"""TFX artifacts, or objects with their `mlmd_artifact`, by the key of an input."""


@contextmanager
def cache_keys_from(inputs_in_key: Callable[[Artifacts], Artifacts]) -> Iterator[None]:
    """Computes the cache key of a node from other input artifacts than those that it reads.

    Replaces: `tfx.orchestration.portable.cache_utils.get_cache_context`, which the launcher calls.
    Written for: tfx 1.21.0.
    Reason: the key is a digest of each input's record in ML Metadata: id, URI and times of
        creation included. An input that was written again with the same content is another one, so
        that all later steps run again.
    Remove when: TFX has a cache key by content, or takes a function that computes the key.

    Args:
        inputs_in_key: maps the input artifacts of a node to those that enter its key. It must not
            change the artifacts that it is given.
    """
    original = cache_utils.get_cache_context

    def get_cache_context(*args: Any, input_artifacts: Any = None, **kwargs: Any) -> mlmd.Context:
        in_key = inputs_in_key(input_artifacts or {})
        return original(*args, input_artifacts=in_key, **kwargs)

    with mock.patch.object(cache_utils, "get_cache_context", get_cache_context):
        yield


@contextmanager
def beam_arguments_replaced(arguments: Sequence[str]) -> Iterator[None]:
    """Runs the Beam components of a compiled pipeline with other arguments than it contains.

    Replaces: the entry for BeamExecutableSpec of
        `tfx.orchestration.portable.launcher.DEFAULT_EXECUTOR_OPERATORS`.
    Written for: tfx 1.21.0.
    Reason: a node's cache key contains its executor spec with all Beam arguments, so that another
        runner or number of workers would run everything again, though results do not depend on
        it. And `LocalDagRunner` passes no `custom_executor_operators` to the launcher.
    Remove when: `LocalDagRunner` takes executor operators or Beam arguments for a run.
    """

    class Operator(BeamExecutorOperator):
        def __init__(self, executor_spec: Any, platform_config: Any = None) -> None:
            super().__init__(executor_spec, platform_config)
            self.beam_pipeline_args = [_literal(argument) for argument in arguments]

    replaced = {executable_spec_pb2.BeamExecutableSpec: Operator}
    with mock.patch.dict(launcher.DEFAULT_EXECUTOR_OPERATORS, replaced):
        yield


def _literal(argument: str) -> placeholder_pb2.PlaceholderExpression:
    """An argument in the form in which an executor operator resolves it."""
    expression = placeholder_pb2.PlaceholderExpression()
    expression.value.string_value = argument
    return expression


@contextmanager
def nodes_observed(
    on_start: Callable[[str], None], on_finish: Callable[[str, bool], None]
) -> Iterator[None]:
    """Calls functions before each node is launched, and after it has succeeded.

    Replaces: `tfx.orchestration.portable.launcher.Launcher`, by a subclass.
    Written for: tfx 1.21.0.
    Reason: `LocalDagRunner` has no hook and returns nothing. It only logs what it does, in texts
        that are no interface.
    Remove when: `LocalDagRunner` has callbacks for the beginning and the end of a node.

    Args:
        on_start: takes the id of the node.
        on_finish: takes the id of the node, and whether its outputs were taken from the cache. It
            is not called for a node that fails.
    """

    class Launcher(launcher.Launcher):
        def __init__(self, *, pipeline_node: Any, mlmd_connection: Any, **kwargs: Any) -> None:
            super().__init__(pipeline_node=pipeline_node, mlmd_connection=mlmd_connection, **kwargs)
            self._observed_node, self._connection = pipeline_node.node_info.id, mlmd_connection

        def launch(self) -> Any:
            on_start(self._observed_node)
            execution_info = super().launch()
            on_finish(self._observed_node, self._is_cached(execution_info))
            return execution_info

        def _is_cached(self, execution_info: Any) -> bool:
            # What `launch` returns does not say so. A node that is skipped has no execution.
            ids = [execution_info.execution_id] if execution_info.execution_id else []
            with self._connection as metadata:
                executions = metadata.store.get_executions_by_id(ids)
            return any(each.last_known_state == mlmd.Execution.CACHED for each in executions)

    with mock.patch.object(launcher, "Launcher", Launcher):
        yield


def parse_container_arguments(argv: list[str]) -> Any:
    """Parses the command line of a container that Kubeflow Pipelines runs.

    Calls: the private `_parse_flags` of
        `tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor`.
    Written for: tfx 1.21.0.
    Reason: TFX compiles this command line into the pipeline. The module's public `main` takes it
        parsed; the parser has no public name.
    Remove when: the parser is public, or `main` takes a command line.

    Returns:
        TFX's arguments, and those for Beam.
    """
    # Only containers need it, and it imports all of TFX's Kubeflow support.
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

    return kubeflow_v2_run_executor._parse_flags(argv)
