import json

import pytest
from google.protobuf import json_format

from pipeline.runners.kubeflow.entrypoint import typed

EXAMPLES = {"instanceSchema": "title: tfx.Examples\ntype: object\n"}
MODEL = {"instanceSchema": "title: tfx.Model\ntype: object\n"}


@pytest.mark.parametrize("given", [{}, {"type": {}}, {"type": {"instanceSchema": ""}}])
@pytest.mark.parametrize("other", [{}, {"type": {"schemaTitle": "system.Model"}}])
def test_inputs_get_the_types_that_their_component_declares(given, other):
    invocation = {
        "inputs": {
            "parameterValues": {"seed": 3.0},
            "artifacts": {
                "examples": {"artifacts": [{"name": "7", "uri": "gs://b/examples", **given}]},
                "model_10": {"artifacts": [{"name": "8", "uri": "gs://b/model", **other}]},
            },
        },
        "outputs": {"artifacts": {"model": {"artifacts": [{"uri": "gs://b/out", "type": MODEL}]}}},
    }
    spec = {
        "artifacts": {"examples": {"artifactType": EXAMPLES}, "model_10": {"artifactType": MODEL}}
    }
    result = json_format.MessageToDict(typed(json.dumps(invocation), json.dumps(spec)))
    assert result["inputs"]["artifacts"] == {
        "examples": {"artifacts": [{"name": "7", "uri": "gs://b/examples", "type": EXAMPLES}]},
        "model_10": {"artifacts": [{"name": "8", "uri": "gs://b/model", "type": MODEL}]},
    }
    assert result["inputs"]["parameterValues"] == {"seed": 3.0}
    assert result["outputs"] == invocation["outputs"]
