// Model H: when a home suspects another node (docs/protocol.md F1; Membership::Sample and
// IsSilent in src/daemon/membership.cc).
//
// One home samples the heartbeat of one node. Both may be paused at any tick, one by one
// or together (a host that stops its virtual machines), for any time. Checked, F1: a node
// is suspected only if it was silent for the configured time T while the home was awake,
// a pause of the home that is longer than two sample periods not counted. Checked, S4: a
// node that is silent for good is suspected at last, whoever was paused before. Time is
// ticks; T = samples * period. The home's own pauses up to two periods are not noticed by
// it, and allowed.
#include "mc.hpp"

#pragma pack(push, 1)
struct S {
  uint8_t home_paused, node_paused, dead;
  // The home: ticks since its last sample and since it saw a change, what it counted.
  uint8_t seen, since_sample, since_change, silent, suspected;
  uint8_t changed;   // the heartbeat differs from what the home sampled last
  uint8_t node_age;  // ticks in which the node ran since its last beat
  uint8_t silence;   // ghost: ticks without a beat since the home was last away
};
#pragma pack(pop)

static int samples = 3, period = 2, beat_ticks = 1, kMax;
static bool b_nogap;

struct Model {
  MC<S>& mc;
  const S& s;
  static void Up(uint8_t& x) {
    if (x < kMax) x++;
  }

  void Sample() {
    if (s.home_paused || s.suspected || (s.seen && s.since_sample < period)) return;
    S t = s;
    bool was_away = !s.seen || s.since_sample > 2 * period;
    if (b_nogap && s.seen) was_away = false;
    if (was_away || s.changed) {
      t.silent = 0;
      t.since_change = 0;
    } else if (t.silent < samples) {
      t.silent++;
    }
    t.seen = 1, t.changed = t.since_sample = 0;
    if (t.silent >= samples && t.since_change >= samples * period) {
      t.suspected = 1;
      if (s.silence < samples * period)
        viol(
            "F1: suspected although it was not silent that long while the home was "
            "awake");
    }
    mc.emit(t, t.suspected ? "home: samples, suspects" : "home: samples", t.silent,
            t.since_change);
  }
  void Tick() {
    // A home that is awake samples when it is time to.
    if (!s.home_paused && !s.suspected && (!s.seen || s.since_sample >= period)) return;
    S t = s;
    Up(t.since_sample), Up(t.since_change);
    Up(t.silence);
    if (!s.node_paused && !s.dead && ++t.node_age >= beat_ticks) {
      t.changed = 1, t.node_age = t.silence = 0;
    }
    mc.emit(t, "tick");
  }
  void All() {
    Sample();
    Tick();
    S t = s;
    t.home_paused = !s.home_paused;
    if (s.home_paused && s.since_sample > 2 * period) t.silence = 0;  // it was away
    mc.emit(t, t.home_paused ? "home is paused" : "home goes on", 0, 0, t.home_paused);
    t = s;
    t.node_paused = !s.node_paused;
    mc.emit(t, t.node_paused ? "node is paused" : "node goes on", 0, 0, t.node_paused);
    if (!s.dead) {
      t = s;
      t.dead = 1;
      mc.emit(t, "node dies");
    }
  }
};

int main(int c, char** v) {
  Args a(c, v);
  samples = a.num("samples", 3), period = a.num("period", 2),
  beat_ticks = a.num("beat", 1);
  b_nogap = a.has("bug=nogap");
  kMax = samples * period + 2 * period + 2;
  S s;
  memset(&s, 0, sizeof s);
  MC<S> mc;
  mc.quiet = a.has("quiet");
  return mc.run(
      s, [](MC<S>& m, const S& st) { Model{m, st}.All(); },
      [](const S& st) { return st.suspected; }, true);
}
