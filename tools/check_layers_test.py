#!/usr/bin/env python3
"""Tests of check_layers.py: each rule on an include that it allows and one that it refuses."""

import pathlib
import tempfile
import unittest

import check_layers

ROOMS = check_layers.read_rooms(
    "base:\nplatform: base # the OS\nformat: base\n"
    "codec: base format\nclient: base codec\ndaemon: base codec\n"
    "testing: base codec client daemon\n"
)


class CheckIncludeTest(unittest.TestCase):
    def allowed(self, source, include):
        self.assertIsNone(self.check(source, include))

    def refused(self, source, include):
        self.assertIsNotNone(self.check(source, include))

    def check(self, source, include):
        return check_layers.check_include(source, include[0], include[1:-1], ROOMS)

    def test_room_sees_itself_and_what_rooms_txt_names(self):
        self.allowed("src/codec/a.h", '"codec/b.h"')
        self.allowed("src/codec/a.h", '"base/b.h"')
        self.refused("src/codec/a.h", '"platform/b.h"')
        self.refused("src/base/a.h", '"codec/b.h"')

    def test_client_and_daemon_do_not_see_each_other(self):
        self.refused("src/client/a.cc", '"daemon/b.h"')
        self.refused("src/daemon/a.cc", '"client/b.h"')

    def test_only_tests_see_testing(self):
        self.allowed("src/codec/a_test.cc", '"testing/b.h"')
        self.allowed("src/testing/a.cc", '"testing/b.h"')
        self.allowed("src/codec/test_a.h", '"testing/b.h"')
        self.allowed("src/codec/a_test.cc", '"codec/test_a.h"')
        self.refused("src/codec/a.cc", '"codec/test_a.h"')
        self.refused("src/codec/a.cc", '"testing/b.h"')
        self.refused("apps/sheaf/main.cc", '"testing/b.h"')

    def test_a_room_s_tests_obey_the_room_s_order(self):
        self.refused("src/base/a_test.cc", '"codec/b.h"')

    def test_every_room_sees_public_headers(self):
        self.allowed("src/base/a.h", '"sheaf/types.h"')

    def test_public_headers_see_arrow_and_each_other_only(self):
        self.allowed("include/sheaf/a.h", '"sheaf/types.h"')
        self.allowed("include/sheaf/a.h", "<arrow/table.h>")
        self.allowed("include/sheaf/a.h", "<memory>")
        self.refused("include/sheaf/a.h", '"base/check.h"')
        self.refused("include/sheaf/a.h", "<spdlog/spdlog.h>")

    def test_examples_see_what_users_see(self):
        self.allowed("examples/a.cpp", "<sheaf/sheaf.h>")
        self.refused("examples/a.cpp", '"base/check.h"')

    def test_tests_and_benchmarks_see_everything(self):
        self.allowed("tests/a_test.cc", '"daemon/b.h"')
        self.allowed("benchmarks/a_benchmark.cc", '"testing/b.h"')

    def test_pure_rooms_see_no_operating_system(self):
        self.refused("src/codec/a.cc", "<thread>")
        self.refused("src/codec/a.cc", "<sys/mman.h>")
        self.allowed("src/codec/a_test.cc", "<sys/mman.h>")
        self.allowed("src/platform/a.cc", "<sys/mman.h>")

    def test_own_headers_start_at_a_root(self):
        self.refused("src/codec/a.cc", '"b.h"')
        self.refused("src/codec/a.cc", '"../base/b.h"')
        self.refused("src/codec/a.cc", '"src/base/b.h"')
        self.refused("src/codec/a.cc", "<base/b.h>")


class CheckTreeTest(unittest.TestCase):
    def test_names_file_and_line(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for part in ("cmake", "src/base", "src/codec", "src/attic"):
                (root / part).mkdir(parents=True)
            (root / "cmake/rooms.txt").write_text("base:\ncodec: base\n")
            (root / "src/base/a.cc").write_text('#include <string>\n#include "codec/b.h"\n')
            (root / "src/attic/a.cc").write_text("")
            problems = check_layers.check_tree(root)
        self.assertEqual(len(problems), 2)
        self.assertIn("src/base/a.cc:2: codec/b.h", "\n".join(problems))
        self.assertIn("src/attic/a.cc: in no room", "\n".join(problems))

    def test_a_cycle_in_rooms_txt_is_refused(self):
        with self.assertRaises(ValueError):
            check_layers.read_rooms("base: codec\ncodec: base\n")


if __name__ == "__main__":
    unittest.main()
