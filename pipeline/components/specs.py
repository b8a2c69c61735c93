"""Specifications of components: the names and types of parameters, inputs and outputs."""

from collections.abc import Collection, Mapping

from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter


def make_spec(
    parameters: Mapping[str, type],
    inputs: Mapping[str, type],
    outputs: Mapping[str, type],
    optional: Collection[str] = (),
) -> type[ComponentSpec]:
    """Makes the class of a specification; parameters and inputs in `optional` may be missing."""

    class Spec(ComponentSpec):
        PARAMETERS = {  # noqa: RUF012
            name: ExecutionParameter(type=kind, optional=name in optional)
            for name, kind in parameters.items()
        }
        INPUTS = {  # noqa: RUF012
            name: ChannelParameter(type=kind, optional=name in optional)
            for name, kind in inputs.items()
        }
        OUTPUTS = {  # noqa: RUF012
            name: ChannelParameter(type=kind) for name, kind in outputs.items()
        }

    return Spec
