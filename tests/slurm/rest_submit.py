#!/usr/bin/env python3
"""Submit a held job as slurmrestd's clients do, and print its number or what slurmrestd says.

    rest_submit SOCKET KEY=VALUE...

Keys are those of `job` in slurmrestd's interface (v0.0.38, Slurm 22.05); a number is sent as one.  `env.NAME=VALUE` is a variable
of the job.
"""
import http.client, json, socket, sys


class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)


job = {"name": "rest", "hold": True, "current_working_directory": "/tmp", "environment": {"PATH": "/usr/bin:/bin"}}
for pair in sys.argv[2:]:
    key, value = pair.split("=", 1)
    if key.startswith("env."):
        job["environment"][key[4:]] = value
    else:
        job[key] = int(value) if value.isdigit() else value
client = Unix(sys.argv[1], timeout=20)
client.request("POST", "/slurm/v0.0.38/job/submit", json.dumps({"script": "#!/bin/sh\ntrue\n", "job": job}), {"Content-Type": "application/json"})
answer = client.getresponse().read().decode()
try:
    print(json.loads(answer)["job_id"])
except (ValueError, KeyError):
    sys.exit(answer)
