"""Reads {"text": …} per line, a page of metrics, with Prometheus's own parser; prints its metric families as JSON."""
import json
import math
import sys

from prometheus_client.parser import text_string_to_metric_families


def total(samples):
    """Returns the sum, or None for an infinity, which JSON lacks (the age of a poll before the first)."""
    value = sum(sample.value for sample in samples)
    return value if math.isfinite(value) else None


for line in sys.stdin:
    families = text_string_to_metric_families(json.loads(line)["text"])
    found = {f.name: {"type": f.type, "help": bool(f.documentation), "labels": sorted({k for s in f.samples for k in s.labels}), "samples": len(f.samples), "sum": total(f.samples)} for f in families}
    print(json.dumps(found, allow_nan=False), flush=True)
