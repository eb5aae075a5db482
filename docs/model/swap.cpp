// Model O: a put that replaces just one version (compare and swap), another one, and a
// removal of that version, over changes of leader (docs/protocol.md C8, C9;
// src/directory/catalog_leader.cc, claim.cc, src/daemon/publisher.cc, remover.cc).
//
// Object 0 is version 1 of a name. Object 1 is to replace just that version, object 2 too,
// or whatever is there (option "replace"); a user removes the name. A leader grants a
// version, at once, by what it knows; a claim reads the slots one by one; leaders that were
// deposed answer as long as they are asked. Steps are whole lines, settled: order of memory
// is in replace.cpp.
//
// Checked: once (of two puts that replace just one version, and a removal of it, one is
// told that it was done), seq (no two objects were the same version of the name), S4.
// Compile: -DPOST=0.
#include "mc.hpp"
constexpr int kObjects = 3, kLeaders = 3, kNobody = 7;
enum Slot { NOTHING, SEALED, GRANTED, BOUND, RETIRED };  // GRANTED: Sealed with a version
enum LeaderState { L_NONE, L_SCAN, L_ACTIVE };
enum PutStep { P_SEAL, P_BIND, P_VERSION, P_CHECK, P_BOUND, P_COMMIT, P_RETIRE, P_OVER };
enum RemoveStep { R_FIND, R_MARK, R_ASK, R_WAIT, R_RETIRE, R_OVER };
enum Told { NOT_TOLD, DONE, REFUSED };

#pragma pack(push, 1)
struct Version {
  uint8_t epoch, sequence;
  bool operator<(const Version& o) const {
    return epoch != o.epoch ? epoch < o.epoch : sequence < o.sequence;
  }
};
struct Leader {  // of epoch k + 1; what it knows of each object
  uint8_t state, next, target, pending, bound, superseded, last, floor;
  Version version[kObjects];
};
struct S {
  uint8_t epoch, claims, restarts, deaths;  // epoch: the highest that was claimed
  uint8_t slot[kObjects], leaving;
  Version version[kObjects];
  Leader leader[kLeaders];
  uint8_t step[kObjects], asked[kObjects], retiring[kObjects], told[kObjects];
  uint8_t floor;  // highest sequence of a removed version, in the leaders' lines
  uint8_t rstep, robject, repoch, rundecided, rconditional, removals, removed;
};
#pragma pack(pop)

static bool conditional[kObjects] = {false, true, true};
static bool nomark, no1a, regrant;
static bool b_nopending, b_markleft, b_noconditional, b_asksold, b_nowait, b_nofloor,
    b_nohold;

struct Model {
  MC<S>& mc;
  const S& s;
  void Out(const S& t, const char* label, int a = 0, int b = 0, bool noise = false) {
    if (conditional[2] && t.told[1] == DONE && t.told[2] == DONE)
      viol("once: two puts have replaced just the same version");
    for (int o = 1; o < kObjects; o++)
      if (conditional[o] && t.told[o] == DONE && (t.removed & 1))
        viol("once: a version was removed, and replaced");
    for (int o = 0; o < kObjects; o++)
      for (int p = 0; p < o; p++)
        if (t.told[o] == DONE && (p == 0 || t.told[p] == DONE) &&
            t.version[o].sequence == t.version[p].sequence)
          viol("seq: two objects were the same version of a name");
    mc.emit(t, label, a, b, noise);
  }
  static void Forget(Leader& l, int o) {
    l.pending &= ~(1 << o);
    if (l.target == o) l.target = kNobody;
  }
  // Slots decide (C3): the highest Bound one is the target.
  static void Refresh(const S& t, Leader& l) {
    const uint8_t first = l.target;
    int live = l.pending | (l.target == kNobody ? 0 : 1 << l.target), best = kNobody;
    for (int o = 0; o < kObjects; o++) {
      if (!(live >> o & 1)) continue;
      if (t.slot[o] == RETIRED || t.slot[o] == NOTHING) {
        live &= ~(1 << o);
        continue;
      }
      if (t.slot[o] != BOUND) continue;
      l.bound |= 1 << o, live &= ~(1 << o);
      if (best == kNobody || l.version[best] < l.version[o]) {
        if (best != kNobody) l.superseded |= 1 << best;
        best = o;
      } else {
        l.superseded |= 1 << o;
      }
    }
    if (best == kNobody)
      for (int o = 0; o < kObjects; o++)
        if ((live >> o & 1) && (best == kNobody || first == o ||
                                (best != first && l.version[best] < l.version[o])))
          best = o;
    l.target = best;
    l.pending = best == kNobody ? live : live & ~(1 << best);
  }
  // --- leaders ------------------------------------------------------------------------
  void Claim() {
    if (s.claims && s.epoch < kLeaders) {
      S t = s;
      t.claims--;
      Leader& l = t.leader[t.epoch++];
      l = {};
      l.state = L_SCAN, l.target = kNobody;
      Out(t, "a node claims the catalog, epoch", t.epoch, 0, true);
    }
    for (int k = 0; k < kLeaders; k++) {
      if (s.leader[k].state != L_SCAN) continue;
      S t = s;
      Leader& l = t.leader[k];
      if (l.next < kObjects) {
        const int o = l.next++;
        if (s.slot[o] == BOUND || (s.slot[o] == GRANTED && !b_nopending)) {
          l.pending |= 1 << o, l.version[o] = s.version[o];
          if (s.version[o].sequence > l.last) l.last = s.version[o].sequence;
        }
        Out(t, "its scan reads a slot", k + 1, o);
      } else if (s.epoch != k + 1) {
        l.state = L_NONE;
        Out(t, "overtaken, steps down", k + 1);
      } else {
        Refresh(s, l);
        l.state = L_ACTIVE, l.next = 0, l.floor = s.floor;
        Out(t, "leads", k + 1, l.target);
      }
    }
  }
  // CatalogLeader::Bind. False: refused.
  bool Bind(S& t, int k, int o, Version* version) {
    Leader& l = t.leader[k];
    const bool known = l.target == o || (l.pending >> o & 1);
    if (known && (regrant || l.version[o].epoch == k + 1 || (l.bound >> o & 1))) {
      if (!(l.bound >> o & 1)) l.version[o].epoch = k + 1;
      *version = l.version[o];
      return true;
    }
    if (known) Forget(l, o);  // another leader granted it: decided anew
    Refresh(t, l);
    if (conditional[o]) {
      const int now = l.target;
      if (now == kNobody || !(l.bound >> now & 1) || l.pending) return false;
      if (l.version[now].sequence != 1 || ((t.leaving >> now & 1) && !b_markleft))
        return false;
    }
    const bool there = l.target != kNobody && (l.bound >> l.target & 1);
    if (!there && l.floor > l.last && !b_nofloor) l.last = l.floor;
    l.last++;
    *version = l.version[o] = {uint8_t(k + 1), l.last};
    if (l.target == kNobody)
      l.target = o;
    else
      l.pending |= 1 << o;
    return true;
  }
  // --- puts ---------------------------------------------------------------------------
  void Refuse(S& t, int o) {
    t.slot[o] = RETIRED, t.step[o] = P_OVER, t.told[o] = REFUSED;
  }
  void Put(int o) {
    S t = s;
    switch (s.step[o]) {
      case P_SEAL:
        t.slot[o] = SEALED, t.step[o] = P_BIND;
        return Out(t, "put: slot := Sealed, no version yet", o);
      case P_BIND:
        for (int k = 0; k < kLeaders; k++) {  // asked: 0 any leader that it believes in
          if (s.leader[k].state != L_ACTIVE || (s.asked[o] && s.asked[o] != k + 1))
            continue;
          t = s;
          Version granted{};
          if (Bind(t, k, o, &granted)) {
            t.version[o] = granted, t.step[o] = P_VERSION;
            Out(t, "put: is granted a version by", o, k + 1);
          } else {
            Refuse(t, o);
            Out(t, "put: is refused by", o, k + 1);
          }
        }
        if (s.asked[o] && s.asked[o] != s.epoch) {
          t = s;
          t.asked[o] = s.epoch;
          Out(t, "put: another one leads", o, s.epoch);
        }
        return;
      case P_VERSION:
        t.slot[o] = GRANTED, t.step[o] = no1a ? P_BOUND : P_CHECK;
        return Out(t, "put: slot := Sealed(v)", o, s.version[o].sequence);
      case P_CHECK:
        t.step[o] = s.epoch > s.version[o].epoch ? P_BIND : P_BOUND;
        t.asked[o] = s.epoch;
        return Out(t, "put: reads the epochs", o, s.epoch);
      case P_BOUND:
        t.slot[o] = BOUND, t.step[o] = P_COMMIT;
        return Out(t, "put: slot := Bound(v)", o, s.version[o].sequence);
      case P_COMMIT: {
        Leader& l = t.leader[s.epoch - 1];
        if (l.state != L_ACTIVE) return;
        const bool known = l.target == o || (l.pending >> o & 1) || (l.superseded >> o & 1);
        if (!known) l.pending |= 1 << o, l.version[o] = s.version[o];
        if (s.version[o].sequence > l.last) l.last = s.version[o].sequence;
        Refresh(s, l);
        t.retiring[o] = l.superseded, t.step[o] = P_RETIRE;
        return Out(t, "put: committed at", o, s.epoch);
      }
      case P_RETIRE:
        for (int p = 0; p < kObjects; p++)
          if (s.retiring[o] >> p & 1) {
            t.slot[p] = RETIRED, t.leaving &= ~(1 << p);
            t.retiring[o] &= ~(1 << p);
            return Out(t, "put: retires what it replaced", o, p);
          }
        t.step[o] = P_OVER, t.told[o] = DONE;
        return Out(t, "put: is told that it was done", o);
    }
  }
  // The daemon of a put's home is killed: what is not Bound is undone; the client, who
  // lives, is told nothing.
  void Restart(int o) {
    if (s.step[o] == P_SEAL || s.step[o] >= P_OVER) return;
    S t = s;
    t.restarts--;
    if (s.slot[o] == BOUND)
      t.step[o] = P_COMMIT, t.retiring[o] = 0;
    else
      t.slot[o] = RETIRED, t.step[o] = P_OVER;
    Out(t, "put: its home is killed, the next one starts", o, 0, true);
  }
  // --- a removal ----------------------------------------------------------------------
  void Remove() {
    S t = s;
    const Leader& l = s.leader[s.epoch - 1];
    const int o = s.robject;
    switch (s.rstep) {
      case R_FIND: {
        if (!s.removals || l.state != L_ACTIVE) return;
        const bool found = l.target != kNobody && s.slot[l.target] == BOUND;
        if (!found && l.target != kNobody) return;  // looks again
        t.robject = l.target, t.rstep = !found ? R_OVER : nomark ? R_RETIRE : R_MARK;
        return Out(t, "removal: finds", l.target);
      }
      case R_MARK:
        if (s.slot[o] != BOUND) return Again(t, "removal: was replaced, looks again");
        if (o && s.step[o] != P_OVER && !b_nohold) return;  // C9 (6)
        t.leaving |= 1 << o, t.rstep = R_ASK;
        return Out(t, "removal: slot := leaving", o);
      case R_ASK:
        for (int k = 0; k < kLeaders; k++) {
          const Leader& asked = s.leader[k];
          if (asked.state != L_ACTIVE || (k + 1 != s.epoch && !b_asksold)) continue;
          t = s;
          Leader& m = t.leader[k];
          const uint8_t sequence = s.version[o].sequence;
          if (sequence > t.floor) t.floor = sequence;
          if (sequence > m.floor) m.floor = sequence;
          Refresh(s, m);
          if (m.target != kNobody && (m.bound >> m.target & 1) && m.target != o)
            return Again(t, "removal: was replaced, looks again");
          t.rundecided = t.rconditional = 0;
          for (int p = 0; p < kObjects; p++)
            if (((m.pending >> p & 1) || m.target == p) && p != o && !(m.bound >> p & 1)) {
              t.rundecided |= 1 << p;
              if (conditional[p] || m.version[p].epoch != k + 1)
                t.rconditional |= 1 << p;
            }
          t.repoch = k + 1, t.rstep = R_WAIT;
          Out(t, "removal: what the leader has granted", k + 1, t.rundecided);
        }
        return;
      case R_WAIT: {
        if (s.repoch != s.epoch && s.repoch && !b_asksold) {
          t.rstep = R_ASK;
          return Out(t, "removal: another one leads, asks again", s.epoch);
        }
        t.repoch = 0;  // looked at once, after the answer
        if (s.repoch) return Out(t, "removal: that one leads still");
        bool open = false;
        for (int p = 0; p < kObjects; p++) {
          if (!(s.rundecided >> p & 1)) continue;
          if (s.slot[p] == BOUND && (s.rconditional >> p & 1) && !b_noconditional)
            return Again(t, "removal: was replaced, looks again");
          open |= s.slot[p] == SEALED || s.slot[p] == GRANTED;
        }
        if (open && !b_nowait) return;
        t.rstep = R_RETIRE;
        return Out(t, "removal: nobody can take its place now");
      }
      case R_RETIRE:
        if (s.slot[o] != BOUND) return Again(t, "removal: was replaced, looks again");
        t.slot[o] = RETIRED, t.leaving &= ~(1 << o), t.rstep = R_OVER;
        t.removed |= 1 << o, t.removals--;
        return Out(t, "removal: slot := Retired, is told that it was done", o);
      case R_OVER:
        return;
    }
  }
  void Again(S& t, const char* label) {
    t.leaving &= ~(1 << s.robject);
    t.rundecided = t.rconditional = t.repoch = 0, t.rstep = R_FIND;
    Out(t, label, s.robject);
  }
  void RemoverDies() {  // its home: the next one clears the mark
    if (s.rstep == R_OVER || s.rstep == R_FIND) return;
    S t = s;
    t.deaths--;
    t.leaving = 0, t.rstep = R_OVER;
    Out(t, "removal: its home is killed, the next one starts", 0, 0, true);
  }
  void All() {
    Claim();
    for (int o = 1; o < kObjects; o++) {
      Put(o);
      if (s.restarts) Restart(o);
    }
    Remove();
    if (s.deaths) RemoverDies();
  }
};

int main(int c, char** v) {
  Args a(c, v);
  conditional[2] = !a.has("replace");
  nomark = a.has("nomark"), no1a = a.has("no1a"), regrant = a.has("regrant");
#define BUG(x) b_##x = a.has("bug=" #x)
  BUG(nopending);
  BUG(markleft);
  BUG(noconditional);
  BUG(asksold);
  BUG(nowait);
  BUG(nofloor);
  BUG(nohold);
  S s;
  memset((void*)&s, 0, sizeof s);
  s.epoch = 1, s.slot[0] = BOUND, s.version[0] = {1, 1};
  s.leader[0].state = L_ACTIVE, s.leader[0].target = 0, s.leader[0].bound = 1;
  s.leader[0].version[0] = {1, 1}, s.leader[0].last = 1;
  for (int k = 1; k < kLeaders; k++) s.leader[k].target = kNobody;
  s.claims = a.num("claims", 0), s.removals = a.num("removals", 0);
  s.restarts = a.num("restarts", 0), s.deaths = a.num("deaths", 0);
  for (int o = 1 + a.num("puts", 2); o < kObjects; o++) s.step[o] = P_OVER;
  return Check<Model>(a, s, [](const S& t) {
    int bound = 0;
    for (int o = 0; o < kObjects; o++) bound += t.slot[o] == BOUND;
    return t.step[1] == P_OVER && t.step[2] == P_OVER && bound <= 1 && !t.leaving;
  });
}
