"""Validates documents against the official schemas of OpenAPI 3.1 and AsyncAPI 3, and JSON values against JSON Schemas.

Reads a JSON line each from stdin: {"openapi": document}, {"asyncapi": document}, or {"schema", "instance"}; prints
"valid", or "rejected: why". Formats are asserted. Numbers are read as most languages do, in double precision.
"""

import json
import pathlib
import sys

from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker
from jsonschema.exceptions import best_match
from openapi_spec_validator import OpenAPIV31SpecValidator

ASYNCAPI = pathlib.Path(__file__).parents[2] / "target/foreign/node/node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json"


def fault(request):
    if "openapi" in request:
        # The examples are judged too, by the schemas beside them.
        return best_match(OpenAPIV31SpecValidator(request["openapi"]).iter_errors())
    if "asyncapi" in request:
        schema = json.loads(pathlib.Path(request.get("specification", ASYNCAPI)).read_text())
        return best_match(Draft7Validator(schema).iter_errors(request["asyncapi"]))
    schema = request["schema"]
    Draft202012Validator.check_schema(schema)
    return best_match(Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(request["instance"]))


for line in sys.stdin:
    try:
        error = fault(json.loads(line))
        print("valid" if error is None else "rejected: " + repr(error.message + " at " + error.json_path)[:600])
    except Exception as e:
        print("rejected:", repr(e)[:600])
