"""Reads {"text": …} per line, a page of metrics, with Prometheus's own parser; prints its metric families as JSON."""
import json
import sys

from prometheus_client.parser import text_string_to_metric_families

for line in sys.stdin:
    families = text_string_to_metric_families(json.loads(line)["text"])
    found = {f.name: {"type": f.type, "help": bool(f.documentation), "labels": sorted({k for s in f.samples for k in s.labels}), "samples": len(f.samples), "sum": sum(s.value for s in f.samples)} for f in families}
    print(json.dumps(found), flush=True)
