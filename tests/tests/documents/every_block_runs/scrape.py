"""Scrapes the targets of a Prometheus configuration, and fails unless each of them has metrics."""

import os
import sys
import urllib.request

import yaml
from prometheus_client.parser import text_string_to_metric_families

with open(sys.argv[1]) as file:
    configuration = yaml.safe_load(file)
assert set(configuration) <= {"scrape_configs", "rule_files"}, configuration
for job in configuration["scrape_configs"]:
    assert set(job) <= {"job_name", "scheme", "authorization", "static_configs"}, job
    with open(job["authorization"]["credentials_file"]) as file:
        token = file.read().strip()
    for target in [target for static in job["static_configs"] for target in static["targets"]]:
        url = f"{job.get('scheme', 'http')}://{target}/metrics"
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            names = {family.name for family in text_string_to_metric_families(answer.read().decode())}
        assert "webhookd_active" in names, (url, names)
for rules in configuration.get("rule_files", []):
    assert os.path.basename(rules) == "alerts.yml", rules
