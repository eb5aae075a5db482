"""Runs in a guest, as its only service: commands come in as lines of JSON over a
virtio port, and answers go back. A process that is started stays, with its input open,
until the guest ends or it is told to."""

import glob
import json
import os
import subprocess
import threading
import time

PORTS = "/dev/vport*p*"  # there is one; devtmpfs without udev has no names


class Agent:
    def __init__(self, port):
        self.port = port
        self.lock = threading.Lock()
        self.started = {}

    def reply(self, message):
        with self.lock:
            os.write(self.port, (json.dumps(message) + "\n").encode())

    def run(self, request):
        try:
            ran = subprocess.run(["/bin/bash", "-c", request["run"]],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True,
                                 timeout=request["timeout"])
            return {"code": ran.returncode, "out": ran.stdout}
        except subprocess.TimeoutExpired as late:
            out = late.stdout or b""
            return {"code": -1, "out": "(no end)\n" + out.decode(errors="replace")}

    def start(self, request):
        process = subprocess.Popen(["/bin/bash", "-c", "exec " + request["start"]],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, bufsize=1)
        self.started[process.pid] = process
        return {"code": 0, "pid": process.pid}

    def line(self, request):
        """Send a line to what was started, if there is one to send; a line back."""
        process = self.started[request["pid"]]
        if request["line"] is not None:
            process.stdin.write(request["line"] + "\n")
            process.stdin.flush()
        return {"code": 0, "out": process.stdout.readline()}

    def write(self, request):
        with open(request["write"], "w") as file:
            file.write(request["text"])
        return {"code": 0}

    def answer(self, request):
        for verb in ("run", "start", "line", "write"):
            if verb in request:
                try:
                    answer = getattr(self, verb)(request)
                except Exception as error:  # the harness shows it
                    answer = {"code": -1, "out": repr(error)}
                return self.reply({"id": request["id"], **answer})
        self.reply({"id": request["id"], "code": -1, "out": "unknown request"})


def main():
    while not glob.glob(PORTS):  # its driver has not asked the host yet
        time.sleep(0.01)
    port = os.open(glob.glob(PORTS)[0], os.O_RDWR)
    agent = Agent(port)
    agent.reply({"id": 0, "code": 0})
    buffer = b""
    while True:
        block = os.read(port, 65536)
        buffer += block
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            if line:
                threading.Thread(target=agent.answer, args=(json.loads(line),)).start()
        if not block:
            time.sleep(0.05)  # nobody listens on the other side


main()
