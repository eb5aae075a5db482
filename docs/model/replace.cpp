// Model F: replace by version (docs/protocol.md C9). One name, already bound to object 0;
// publishers put object 1 and object 2 under the same name at the same time. Any
// candidate may claim the lead at any time, a deposed leader may go on believing, daemons
// restart, clients die.
//
// The flow that holds (the default):
// - bind(name, replace) at a leader gives a version v' = (epoch, seq), rising; the index is
//   not touched.
// - slot := Bound(v'), SETTLE.
// - LOAD! all epoch lines, e := maximum; commit(name, object, v') to the leader of e,
//   naming e.
// - Leader: if v' is higher than the entry's version: entry := object, SETTLE. Whatever is
//   lower now is superseded: the leader asks its home to retire it, again and again, until
//   it reads Retired.
// - put() returns when everything that the commit superseded is Retired in memory.
// - Rebuild: scan, SETTLE, LOAD! all epoch lines again (overtaken: step down); the entry is
//   the highest Bound version, lower Bound ones are superseded.
// `given` is the flow as it was first proposed: slot Sealed(v'), SETTLE, epoch check,
// Bound, flush, commit to the same leader, the publisher's home retires the old object;
// the rebuild counts Sealed slots too.
// `plain` (implies `sealfirst`): the name is free, and the put of object 1 does not replace
// (C3 to C6). What a leader granted, or found Sealed, holds a name without a Bound version;
// it reads those slots again when it is asked for a version or told of one.
// Compile: -DNODES=2|3 -DPOST=0|2.
#include "mc.hpp"
#ifndef NODES
#define NODES 2
#endif
#ifndef POST
#define POST 0
#endif
constexpr int kNodes = NODES, kPosted = POST, kObjects = 3, kPublishers = 2, kNobody = 3;
enum Line { EPOCH = 0, INDEX = kNodes, SLOT = 2 * kNodes, LINES = 2 * kNodes + kObjects };

enum SlotKind { PENDING, SEALED, BOUND, RETIRED };
static int Version(int epoch, int seq) { return 4 * epoch + seq; }
static int SlotValue(SlotKind kind, int version) { return 64 * kind + version; }
static SlotKind KindOf(int v) { return SlotKind(v / 64); }
static int VersionOf(int v) { return v % 64; }
// An index line holds the epoch it was built for and the object of the name; 0 = not
// active.
static int IndexValue(int epoch, int object) { return 4 * epoch + object; }
static int IndexEpoch(int v) { return v / 4; }
static int IndexObject(int v) { return v % 4; }

enum LeaderStep {
  L_NONE,
  L_READ_EPOCHS,
  L_EPOCH_FLUSH,
  L_SCAN,
  L_CONFIRM,
  L_INDEX,
  L_INDEX_FLUSH,
  L_ACTIVE
};
enum PublisherStep {
  P_BIND,
  P_BIND_WAIT,
  P_SEALED,
  P_SEALED_FLUSH,
  P_FIRST_CHECK,
  P_BOUND,
  P_BOUND_FLUSH,
  P_CHECK,
  P_COMMIT,
  P_COMMIT_WAIT,
  P_RETIRING,
  P_ABORT,
  P_ABORT_FLUSH,
  P_DONE
};
enum ReaderStep { R_IDLE, R_EPOCHS, R_INDEX, R_SLOT };
constexpr int kNotLeader = 255, kDenied = 254;

#pragma pack(push, 1)
struct S : Mem<kNodes, LINES, kPosted> {
  // Leaders. Lost when the daemon restarts; a restarted leader claims again.
  uint8_t lstep[kNodes], lnext[kNodes], epoch[kNodes], seq[kNodes];
  uint8_t entry[kNodes], entry_version[kNodes];  // also: the best object of a scan
  uint8_t superseded[kNodes];  // objects that the leader still wants Retired
  uint8_t pending[kNodes];     // `plain`: granted or found Sealed, not known to be Bound
  uint8_t committing[kNodes],
      lwait[kNodes];  // publisher + 1 whose commit waits for the settle
  uint8_t claims;
  // Homes of the publishers. Lost when the daemon restarts; the request of the client is
  // repeated.
  uint8_t pstep[kPublishers], version[kPublishers], pepoch[kPublishers],
      pnext[kPublishers];
  uint8_t leader[kPublishers], pwait[kPublishers], retiring[kPublishers],
      reply[kPublishers];
  uint8_t dead, restarts;
  uint8_t asked_to_retire;  // requests of leaders to the homes, one bit per object
  // The reader.
  uint8_t rstep, rnext, rmax, rleader, robject, rold, lookups, any_index;
  // Ghosts: the highest version that a finished put() has; the same when the lookup
  // began; what the reader has seen last through the leader's index.
  uint8_t returned, rsnap, rlast;
  uint8_t began[kPublishers];  // `returned` when the put began, + 1
  void arrived(int, int, int, int) {}
};
#pragma pack(pop)
using Memory = Ops<S, kNodes, LINES, kPosted>;

static int D = 1, settle_epoch, settle_slot, settle_index, settle_scan, leaders = 2,
           home_of[kObjects] = {0, 0, 1};
static bool crash, anyindex, in_order;
static bool order;  // a put is newer than those that had returned when it began
// The parts in which the proposed flow and the repaired flow differ.
static bool seal_first;       // Sealed + epoch check + bind again, before Bound
static bool unsettled_bound;  // Bound is flushed only
static bool no_check;         // no epoch check between Bound and commit
static bool rebuild_sealed;   // the rebuild takes the highest Sealed OR Bound version
static bool home_retires;     // the publisher's home asks for the retire, not the leader
static bool plain;            // nothing is there, and publisher 0 does not replace
static bool b_earlyindex, b_retirefirst, b_nocompare, b_norewrite, b_lowwins, b_nowait,
    b_scanfirst, b_noidxepoch, b_noconfirm, b_oneread, b_plainbelieved;

struct Model {
  MC<S>& mc;
  const S& s;
  void Out(S t, const char* label, int a = 0, int b = 0, bool noise = false) {
    memset(t.mask, 0, sizeof t.mask);  // every cross-node load is LOAD!
    mc.emit(t, label, a, b, noise);
  }
  void emit(const S& t, const char* l, int a, int b, bool noise = false) {
    Out(t, l, a, b, noise);
  }
  static int OwnView(const S& t, int n, int line) {
    return t.dirty[n][line] != NONE ? t.dirty[n][line] : Memory::cur(t, n, line);
  }

  // --- leaders ------------------------------------------------------------------------
  static void SetIndex(S& t, int m, int object) {
    Memory::store(t, m, INDEX + m, IndexValue(t.epoch[m], object));
  }
  static void StepDown(S& u, int m) {
    u.lstep[m] = L_NONE;
    u.epoch[m] = u.seq[m] = u.entry[m] = u.entry_version[m] = u.superseded[m] =
        u.pending[m] = u.committing[m] = 0;
    u.lnext[m] = 0;
  }
  void Leader(int m) {
    S t = s;
    if (s.claims && (s.lstep[m] == L_NONE || s.lstep[m] == L_ACTIVE)) {
      t.claims--;
      t.lstep[m] = b_scanfirst ? L_SCAN : L_READ_EPOCHS;
      t.lnext[m] = t.epoch[m] = t.seq[m] = t.entry_version[m] = t.superseded[m] =
          t.pending[m] = t.lwait[m] = 0;
      t.committing[m] = 0;
      t.entry[m] = kNobody;
      Memory::store(t, m, INDEX + m, 0);
      Out(t, "leader: claims", m, 0, s.lstep[m] == L_ACTIVE);
      t = s;
    }
    switch (s.lstep[m]) {
      case L_READ_EPOCHS:
        if (s.lnext[m] == kNodes) {
          int e = s.epoch[m] + 1;
          while (e % kNodes != m) e++;
          t.epoch[m] = e;
          Memory::store(t, m, EPOCH + m, e);
          t.lstep[m] = L_EPOCH_FLUSH;
          t.lnext[m] = 0;
          Out(t, "leader: epoch line := e", m, e);
          break;
        }
        Memory::il(s, m, EPOCH + s.lnext[m], [&](S& u, int v) {
          if (v > u.epoch[m]) u.epoch[m] = v;
          u.lnext[m]++;
          Out(u, "leader: reads an epoch line", m, v);
        });
        break;
      case L_EPOCH_FLUSH:
        if (!Memory::flush(t, m, EPOCH + m) || !Memory::flush(t, m, INDEX + m)) break;
        t.lwait[m] = settle_epoch;
        t.lstep[m] = b_scanfirst ? L_INDEX : L_SCAN;
        Out(t, "leader: flush epoch line", m);
        break;
      case L_SCAN: {
        if (s.lwait[m]) break;
        int o = s.lnext[m];
        if (o == kObjects) {
          // A claim that was overtaken may read every slot too early or too late; its
          // index is not used.
          if (s.entry[m] == kNobody && s.returned && !s.pending[m] &&
              MaxEpoch() == s.epoch[m])
            viol("S5: the rebuild finds no object of the name");
          t.lnext[m] = 0;
          t.lstep[m] = b_scanfirst ? L_READ_EPOCHS : L_CONFIRM;
          // What it read of its own node may still be on its way to memory.
          t.lwait[m] = settle_scan;
          Out(t, "leader: scan complete, best is", m, s.entry[m]);
          break;
        }
        Memory::il(s, m, SLOT + o, [&](S& u, int v) {
          u.lnext[m]++;
          if (KindOf(v) == BOUND || (rebuild_sealed && KindOf(v) == SEALED)) {
            int best = s.entry[m];
            bool better =
                best == kNobody || (VersionOf(v) > s.entry_version[m]) != b_lowwins;
            int loser = better ? best : o;
            if (loser != kNobody) u.superseded[m] |= 1 << loser;
            if (better) u.entry[m] = o, u.entry_version[m] = VersionOf(v);
          }
          if (plain && KindOf(v) == SEALED) u.pending[m] |= 1 << o;
          Out(u, "leader: scans slot", m, o);
        });
        break;
      }
      // A claim that was overtaken during its scan may have seen a Bound version that the
      // later scan has missed; it must not act on it, else the later index points at a
      // Retired object.
      case L_CONFIRM:
        if (s.lwait[m]) break;
        if (s.lnext[m] == kNodes || b_noconfirm) {
          t.lnext[m] = 0;
          t.lstep[m] = L_INDEX;
          Out(t, "leader: its epoch is still the highest", m, s.epoch[m]);
          break;
        }
        Memory::il(s, m, EPOCH + s.lnext[m], [&](S& u, int v) {
          u.lnext[m]++;
          if (v > s.epoch[m]) StepDown(u, m);
          Out(u, "leader: reads an epoch line again", m, v);
        });
        break;
      case L_INDEX: {
        int best = s.entry[m];
        for (int o = 0; o < kObjects && s.entry[m] == kNobody; o++)
          if (s.pending[m] >> o & 1) best = o;
        SetIndex(t, m, best);
        t.lstep[m] = L_INDEX_FLUSH;
        Out(t, "leader: index := best", m, best);
        break;
      }
      case L_INDEX_FLUSH:
        if (!Memory::flush(t, m, INDEX + m)) break;
        t.lwait[m] = settle_index;
        t.lstep[m] = L_ACTIVE;
        t.lnext[m] = 0;
        Out(t, "leader: active, epoch", m, s.epoch[m]);
        break;
      case L_ACTIVE:
        if (s.lwait[m]) break;
        Lead(m);
        break;
    }
    if (s.lstep[m] == L_ACTIVE) return;
    for (int i = 0; i < kPublishers; i++) {
      if (s.leader[i] != m || s.reply[i]) continue;
      if (s.pstep[i] != P_BIND_WAIT && s.pstep[i] != P_COMMIT_WAIT) continue;
      t = s;
      t.reply[i] = kNotLeader;
      Out(t, "not leader", m, i);
    }
  }
  // `plain`: what is Bound by now takes part, also if nobody has said so. False: its
  // lines are on their way, later.
  static bool Refresh(S& t, int m) {
    const int before = t.entry[m];
    for (int o = 0; o < kObjects; o++) {
      if (!(t.pending[m] >> o & 1)) continue;
      if (!Memory::flush(t, m, SLOT + o)) return false;
      const int v = Memory::cur(t, m, SLOT + o);
      if (KindOf(v) != BOUND && KindOf(v) != RETIRED) continue;
      t.pending[m] &= ~(1 << o);
      if (KindOf(v) == RETIRED) continue;
      const int best = t.entry[m];
      const bool better = best == kNobody || VersionOf(v) > t.entry_version[m];
      const int loser = better ? best : o;
      if (loser != kNobody) t.superseded[m] |= 1 << loser;
      if (better) t.entry[m] = o, t.entry_version[m] = VersionOf(v);
    }
    if (t.entry[m] == before) return true;
    t.lwait[m] = settle_index;
    return StoreEntry(t, m, t.entry[m]);
  }
  static bool StoreEntry(S& t, int m, int object) {
    SetIndex(t, m, object);
    return Memory::flush(t, m, INDEX + m);
  }
  void Lead(int m) {
    S t = s;
    for (int n = 0; n < kNodes; n++)
      if (n != m)
        Memory::il(s, m, EPOCH + n, [&](S& u, int v) {
          if (v <= s.epoch[m]) return;
          StepDown(u, m);
          Memory::store(u, m, INDEX + m, 0);
          Out(u, "leader: sees a higher epoch, steps down", m, v);
        });
    if (s.committing[m]) {  // the entry has settled: answer
      int i = s.committing[m] - 1;
      t.committing[m] = 0;
      // The publisher may have been restarted meanwhile; its home then asks again.
      if (s.pstep[i] == P_COMMIT_WAIT && s.leader[i] == m && !s.reply[i])
        t.reply[i] = 1 + s.superseded[m];
      Out(t, "leader: answers the commit", m, i);
      return;
    }
    // Level-triggered: a superseded object is asked for until it reads Retired.
    for (int o = 0; o < kObjects; o++) {
      if (!(s.superseded[m] >> o & 1) || home_retires) continue;
      Memory::il(s, m, SLOT + o, [&](S& u, int v) {
        if (KindOf(v) == RETIRED)
          u.superseded[m] &= ~(1 << o);
        else
          u.asked_to_retire |= 1 << o;
        Out(u,
            KindOf(v) == RETIRED ? "leader: sees Retired" : "leader: asks for the retire",
            m, o);
      });
    }
    for (int i = 0; i < kPublishers; i++) {
      if (s.leader[i] != m || s.reply[i]) continue;
      int object = i + 1;
      t = s;
      if (s.pstep[i] == P_BIND_WAIT) {
        if (!Refresh(t, m)) continue;
        const bool taken = t.entry[m] != kNobody || (t.pending[m] & ~(1 << object));
        if (plain && i == 0 && taken) {
          t.reply[i] = kDenied;
          Out(t, "leader: denied, the name is taken", m, i);
          continue;
        }
        if (s.seq[m] == 3) continue;  // bound of the model
        t.seq[m]++;
        if (plain) {
          t.pending[m] |= 1 << object;
          if (!taken && !StoreEntry(t, m, object)) continue;
        }
        t.reply[i] = 1 + Version(s.epoch[m], t.seq[m]);
        if (b_earlyindex) {
          t.superseded[m] |= 1 << s.entry[m];
          t.entry[m] = object;
          t.entry_version[m] = t.reply[i] - 1;
          SetIndex(t, m, object);
          if (!Memory::flush(t, m, INDEX + m)) continue;
        }
        Out(t, "leader: gives a version", m, t.reply[i] - 1);
      } else if (s.pstep[i] == P_COMMIT_WAIT) {
        if (!no_check && s.pepoch[i] != s.epoch[m]) {
          t.reply[i] = kNotLeader;
          Out(t, "leader: commit names another epoch", m, i);
          continue;
        }
        t.pending[m] &= ~(1 << object);
        if (!Refresh(t, m)) continue;
        if (t.entry[m] == object) {
          t.reply[i] = 1 + t.superseded[m];
          Out(t, "leader: committed already", m, i);
        } else if (s.version[i] > t.entry_version[m] || b_nocompare) {
          if (t.entry[m] != kNobody) t.superseded[m] |= 1 << t.entry[m];
          t.superseded[m] &= ~(1 << object);
          t.entry[m] = object;
          t.entry_version[m] = s.version[i];
          SetIndex(t, m, object);
          if (!Memory::flush(t, m, INDEX + m)) continue;
          t.lwait[m] = settle_index;
          t.committing[m] = i + 1;
          Out(t, "leader: entry := object", m, object);
        } else {
          t.superseded[m] |= 1 << object;
          if (t.entry[m] == s.entry[m])
            t.reply[i] = 1 + t.superseded[m];
          else
            t.committing[m] = i + 1;
          Out(t, "leader: a higher version is bound already", m, object);
        }
      }
    }
  }

  // --- homes --------------------------------------------------------------------------
  // Retired is safe at any time, whoever asks, once a higher version is Bound in memory.
  void Retire(S& t, int o) {
    int v = OwnView(t, home_of[o], SLOT + o);
    bool higher = false;
    for (int p = 0; p < kObjects; p++)
      higher |= KindOf(t.M[SLOT + p]) == BOUND && VersionOf(t.M[SLOT + p]) > VersionOf(v);
    if (KindOf(v) == BOUND && !higher) viol("S5: the highest version is Retired");
    Memory::store(t, home_of[o], SLOT + o, SlotValue(RETIRED, VersionOf(v)));
  }
  void HomeRetires(int o) {
    if (!(s.asked_to_retire >> o & 1)) return;
    int n = home_of[o], v = OwnView(s, n, SLOT + o);
    S t = s;
    if (KindOf(v) == RETIRED) {
      if (!Memory::flush(t, n, SLOT + o)) return;
      t.asked_to_retire &= ~(1 << o);
      Out(t, "home: flush slot (Retired)", o);
    } else {
      Retire(t, o);
      Out(t, "home: slot := Retired, superseded", o);
    }
  }
  void CheckOrder(int i, int mine) {
    if (order && VersionOf(mine) + 1 < s.began[i])
      viol("S5: a put that began after another one had returned is older");
  }
  void Finish(S& t, int i) {
    t.pstep[i] = P_DONE;
    t.began[i] = 0;
    t.version[i] = t.pepoch[i] = t.pnext[i] = t.leader[i] = t.reply[i] = t.retiring[i] =
        t.pwait[i] = 0;
  }
  void Publisher(int i) {
    int object = i + 1, n = home_of[object], line = SLOT + object,
        mine = OwnView(s, n, line);
    S t = s;
    if (crash && !(s.dead >> i & 1) && s.pstep[i] < P_BOUND_FLUSH) {
      t.dead |= 1 << i;
      t.reply[i] = 0;
      t.pstep[i] = P_ABORT;
      Out(t, "client dies before Bound: its home gives up", i, s.pstep[i], true);
      t = s;
    }
    if (s.restarts && s.pstep[i] != P_DONE && s.pstep[i] != P_BIND) {
      t.restarts--;
      t.version[i] = t.pepoch[i] = t.pnext[i] = t.leader[i] = t.pwait[i] = t.retiring[i] =
          t.reply[i] = 0;
      bool gone = s.dead >> i & 1;
      t.pstep[i] = KindOf(mine) == RETIRED ? P_ABORT_FLUSH
                   : KindOf(mine) == BOUND ? P_BOUND_FLUSH
                   : gone                  ? P_ABORT
                                           : P_BIND;
      if (KindOf(mine) == BOUND) t.version[i] = VersionOf(mine);
      Out(t, "home daemon of the publisher restarts", i, 0, true);
      t = s;
    }
    // Asked to retire while its put is under way: somebody newer has the name.
    if (KindOf(mine) == RETIRED && s.pstep[i] < P_ABORT) {
      CheckOrder(i, mine);
      Finish(t, i);
      Out(t, "home: the object is superseded, put() returns", i);
      return;
    }
    switch (s.pstep[i]) {
      case P_BIND:
        for (int m = 0; m < leaders; m++) {
          if (s.lstep[m] != L_ACTIVE) continue;
          t = s;
          t.leader[i] = m;
          t.reply[i] = 0;
          if (order && !s.began[i]) t.began[i] = s.returned + 1;
          t.pstep[i] = P_BIND_WAIT;
          Out(t, "home: asks a leader to bind", i, m);
        }
        break;
      case P_BIND_WAIT:
        if (!s.reply[i]) break;
        t.reply[i] = 0;
        if (s.reply[i] == kNotLeader) {
          t.pstep[i] = P_BIND;
          Out(t, "home: not leader, asks again", i);
          break;
        }
        if (s.reply[i] == kDenied) {
          t.pstep[i] = P_ABORT;
          Out(t, "home: denied, the put fails", i);
          break;
        }
        t.version[i] = s.reply[i] - 1;
        t.pepoch[i] = t.version[i] / 4;
        t.pstep[i] = seal_first ? P_SEALED : P_BOUND;
        Out(t, "home: has a version", i, t.version[i]);
        break;
      case P_SEALED: {
        bool keep = b_norewrite && KindOf(mine) == SEALED;
        Memory::store(t, n, line,
                      SlotValue(SEALED, keep ? VersionOf(mine) : s.version[i]));
        t.pstep[i] = P_SEALED_FLUSH;
        Out(t, "home: slot := Sealed(v)", i, s.version[i]);
        break;
      }
      case P_SEALED_FLUSH:
        if (!Memory::flush(t, n, line)) break;
        t.pwait[i] = settle_slot;
        t.pstep[i] = P_FIRST_CHECK;
        Out(t, "home: flush slot (Sealed)", i);
        break;
      case P_FIRST_CHECK:
        if (s.pwait[i]) break;
        if (s.pnext[i] == kNodes) {
          t.pnext[i] = 0;
          t.pstep[i] = P_BOUND;
          Out(t, "home: epoch check passed", i);
          break;
        }
        Memory::il(s, n, EPOCH + s.pnext[i], [&](S& u, int v) {
          bool higher = v > s.pepoch[i];
          u.pnext[i] = higher ? 0 : s.pnext[i] + 1;
          if (higher) u.pstep[i] = P_BIND;
          Out(u, higher ? "home: a higher epoch, binds again" : "home: epoch check", i,
              v);
        });
        break;
      case P_BOUND:
        Memory::store(t, n, line,
                      SlotValue(BOUND, seal_first ? VersionOf(mine) : s.version[i]));
        t.pstep[i] = P_BOUND_FLUSH;
        Out(t, "home: slot := Bound(v)", i, s.version[i]);
        break;
      case P_BOUND_FLUSH:
        if (!Memory::flush(t, n, line)) break;
        t.pwait[i] = unsettled_bound ? 0 : settle_slot;
        if (b_plainbelieved && i == 0 && s.pepoch[i]) {  // granted in this life of its home
          t.pstep[i] = P_COMMIT;
          Out(t, "home: flush slot (Bound), believes what it read before", i);
          break;
        }
        t.pstep[i] = no_check ? P_COMMIT : P_CHECK;
        t.pnext[i] = 0;
        if (!no_check) t.pepoch[i] = 0;
        if (no_check) t.leader[i] = (s.version[i] / 4) % kNodes;
        Out(t, "home: flush slot (Bound)", i);
        break;
      case P_CHECK:  // which leader may be told: the one of the highest epoch, read AFTER
                     // Bound settled
        if (s.pwait[i]) break;
        if (s.pnext[i] == kNodes) {
          t.pnext[i] = 0;
          t.leader[i] = s.pepoch[i] % kNodes;
          t.pstep[i] = P_COMMIT;
          Out(t, "home: highest epoch is", i, s.pepoch[i]);
          break;
        }
        Memory::il(s, n, EPOCH + s.pnext[i], [&](S& u, int v) {
          if (v > u.pepoch[i]) u.pepoch[i] = v;
          u.pnext[i]++;
          Out(u, "home: epoch check", i, v);
        });
        break;
      case P_COMMIT:
        if (s.pwait[i]) break;
        if (b_retirefirst)
          for (int o = 0; o < kObjects; o++)
            if (o != object && KindOf(s.M[SLOT + o]) == BOUND &&
                VersionOf(s.M[SLOT + o]) < s.version[i])
              t.asked_to_retire |= 1 << o;
        t.pstep[i] = P_COMMIT_WAIT;
        Out(t, "home: commit", i, s.leader[i]);
        break;
      case P_COMMIT_WAIT:
        if (!s.reply[i]) break;
        t.reply[i] = 0;
        if (s.reply[i] == kNotLeader) {
          t.pepoch[i] = 0;
          t.pstep[i] = P_CHECK;
          if (no_check) {  // the proposed flow does not say; any leader that it finds
            for (int m = 0; m < leaders; m++) {
              if (s.lstep[m] != L_ACTIVE) continue;
              S u = t;
              u.leader[i] = m;
              u.pstep[i] = P_COMMIT;
              Out(u, "home: not leader, commits elsewhere", i, m);
            }
            break;
          }
          Out(t, "home: not leader, reads the epochs again", i);
          break;
        }
        t.retiring[i] = s.reply[i] - 1;
        if (b_nowait) t.retiring[i] = 0;
        t.pstep[i] = P_RETIRING;
        Out(t, "home: committed, superseded are", i, t.retiring[i]);
        break;
      case P_RETIRING:
        for (int o = 0; o < kObjects; o++) {
          if (!(s.retiring[i] >> o & 1)) continue;
          Memory::il(s, n, SLOT + o, [&](S& u, int v) {
            if (KindOf(v) == RETIRED)
              u.retiring[i] &= ~(1 << o);
            else if (home_retires)
              u.asked_to_retire |= 1 << o;
            else
              return;
            Out(u,
                KindOf(v) == RETIRED ? "home: sees Retired" : "home: asks for the retire",
                i, o);
          });
        }
        if (s.retiring[i]) break;
        CheckOrder(i, mine);
        if (VersionOf(mine) > t.returned) t.returned = VersionOf(mine);
        Finish(t, i);
        Out(t, "home: put() returns", i, VersionOf(mine));
        break;
      case P_ABORT:
        if (KindOf(mine) == PENDING) {
          Finish(t, i);
          Out(t, "home: nothing was sealed", i);
          break;
        }
        Retire(t, object);
        t.pstep[i] = P_ABORT_FLUSH;
        Out(t, "home: slot := Retired, given up", i);
        break;
      case P_ABORT_FLUSH:
        if (!Memory::flush(t, n, line)) break;
        Finish(t, i);
        Out(t, "home: flush slot (Retired)", i);
        break;
    }
  }

  // --- a reader on the last node ------------------------------------------------------
  void ReaderIdle(S& u) {
    u.rstep = u.rnext = u.rmax = u.rleader = u.robject = u.rold = u.any_index = u.rsnap =
        0;
  }
  void Reader() {
    int n = kNodes - 1;
    S t = s;
    switch (s.rstep) {
      case R_IDLE:
        if (!s.lookups) break;
        t.rsnap = s.returned;
        t.rstep = R_EPOCHS;
        Out(t, "reader: lookup", s.lookups);
        for (int m = 0; anyindex && m < leaders;
             m++) {  // C7: also a deposed leader's answer must be right
          S u = t;
          u.any_index = 1;
          u.rleader = m;
          u.rstep = R_INDEX;
          Out(u, "reader: lookup in the index of any node", m);
        }
        break;
      case R_EPOCHS:
        if (s.rnext == kNodes) {
          t.rstep = R_INDEX;
          t.rnext = 0;
          Out(t, "reader: the leader is", s.rleader, s.rmax);
          break;
        }
        Memory::il(s, n, EPOCH + s.rnext, [&](S& u, int v) {
          if (v > s.rmax) u.rmax = v, u.rleader = s.rnext;
          u.rnext++;
          Out(u, "reader: reads an epoch line", s.rnext, v);
        });
        break;
      case R_INDEX:
        Memory::il(s, n, INDEX + s.rleader, [&](S& u, int v) {
          bool active = v && IndexObject(v) != kNobody &&
                        (s.any_index || b_noidxepoch || IndexEpoch(v) == s.rmax);
          if (active)
            u.robject = IndexObject(v), u.rold = v, u.rstep = R_SLOT;
          else
            ReaderIdle(u);
          Out(u, active ? "reader: the index says" : "reader: no leader yet, again",
              IndexObject(v));
        });
        break;
      case R_SLOT:
        Memory::il(s, n, SLOT + s.robject, [&](S& u, int v) {
          bool bound = KindOf(v) == BOUND;
          if (bound) {
            if (VersionOf(v) < s.rsnap)
              viol("S5: a lookup gives an older version than a finished put");
            if ((!s.any_index || in_order) && VersionOf(v) < s.rlast)
              viol("S5: the versions of one reader go backwards");
            if (!s.any_index || in_order) u.rlast = VersionOf(v);
            u.lookups--;
          } else if (s.rsnap && !s.any_index && s.M[INDEX + s.rleader] == s.rold &&
                     (b_oneread || MaxEpoch() == s.rmax)) {
            viol(
                "S5: the name looks absent: the leader's index points at an object that "
                "is not Bound");
          }
          ReaderIdle(u);
          Out(u, bound ? "reader: opens version" : "reader: not Bound, looks up again",
              VersionOf(v));
        });
        break;
    }
  }
  int MaxEpoch() const {
    int max = 0;
    for (int n = 0; n < kNodes; n++) max = s.M[EPOCH + n] > max ? s.M[EPOCH + n] : max;
    return max;
  }

  void Tick() {
    if (!kPosted) return;
    S t = s;
    bool any = false;
    auto step = [&](uint8_t& wait) {
      any |= wait != 0;
      wait -= wait != 0;
    };
    for (int n = 0; n < kNodes; n++) step(t.lwait[n]);
    for (int i = 0; i < kPublishers; i++) step(t.pwait[i]);
    if (any && Memory::tick(t, D)) Out(t, "tick");
  }
  void All() {
    Memory::noise(*this, s);
    for (int m = 0; m < leaders; m++) Leader(m);
    for (int i = 0; i < kPublishers; i++) Publisher(i);
    for (int o = 0; o < kObjects; o++) HomeRetires(o);
    Reader();
    Tick();
  }
};

int main(int argc, char** argv) {
  Args a(argc, argv);
  D = a.num("D", 1);
  settle_epoch = kPosted ? a.num("s_ep", D + 1) : 0;
  settle_slot = kPosted ? a.num("s_sl", D + 1) : 0;
  settle_index = kPosted ? a.num("s_ix", D + 1) : 0;
  settle_scan = kPosted ? a.num("s_scan", D + 1) : 0;
  leaders = a.num("leaders", 2);
  home_of[0] = a.num("h0", 0);
  home_of[1] = a.num("h1", 0);
  home_of[2] = a.num("h2", 1);
  crash = a.has("crash");
  anyindex = a.has("anyindex");
  in_order = a.has("inorder");
  bool given = a.has("given");
  order = a.has("order");
  plain = a.has("plain");
  seal_first = given || plain || a.has("sealfirst");
  unsettled_bound = given || a.has("unsettled");
  no_check = given || a.has("nocheck");
  rebuild_sealed = given || a.has("rebuildsealed");
  home_retires = given || a.has("homeretires");
#define BUG(x) b_##x = a.has("bug=" #x)
  BUG(earlyindex);
  BUG(retirefirst);
  BUG(nocompare);
  BUG(norewrite);
  BUG(lowwins);
  BUG(nowait);
  BUG(scanfirst);
  BUG(noidxepoch);
  BUG(noconfirm);
  BUG(oneread);
  BUG(plainbelieved);
  S s;
  Memory::init(s);
  int first =
      kNodes;  // node 0 leads with its first epoch; object 0 has the first version of it
  Memory::set0(s, EPOCH + 0, first);
  Memory::set0(s, INDEX + 0, IndexValue(first, 0));
  Memory::set0(s, SLOT + 0, SlotValue(BOUND, Version(first, 0)));
  memset(s.mask, 0, sizeof s.mask);
  s.lstep[0] = L_ACTIVE;
  s.epoch[0] = first;
  s.entry_version[0] = Version(first, 0);
  s.claims = a.num("claims", 1);
  s.restarts = a.num("restarts", 0);
  s.lookups = a.num("lookups", 0);
  s.returned = Version(first, 0);
  if (plain) {  // object 0 was removed
    Memory::set0(s, INDEX + 0, IndexValue(first, kNobody));
    Memory::set0(s, SLOT + 0, SlotValue(RETIRED, Version(first, 0)));
    memset(s.mask, 0, sizeof s.mask);
    s.entry[0] = kNobody;
    s.entry_version[0] = s.returned = 0;
  }
  for (int i = 0; i < kPublishers; i++)
    if (i >= a.num("puts", 2)) s.pstep[i] = P_DONE;
  MC<S> mc;
  mc.quiet = a.has("quiet");
  mc.limit = a.num("limit", 40000000);
  // Quiet: both puts are over, one object of the name is left, and the leader's index
  // says so. That it is the highest version is checked whenever an object is Retired.
  auto goal = [](const S& t) {
    int live = 0, bound = 0, max = 0;
    for (int o = 0; o < kObjects; o++) {
      SlotKind kind = KindOf(t.M[SLOT + o]);
      live += kind == SEALED || kind == BOUND;
      if (kind == BOUND) bound = o;
    }
    for (int n = 1; n < kNodes; n++)
      if (t.M[EPOCH + n] > t.M[EPOCH + max]) max = n;
    return t.pstep[0] == P_DONE && t.pstep[1] == P_DONE && live == 1 &&
           KindOf(t.M[SLOT + bound]) == BOUND &&
           t.M[INDEX + max] == IndexValue(t.M[EPOCH + max], bound);
  };
  return mc.run(
      s, [](MC<S>& m, const S& st) { Model{m, st}.All(); }, goal, !a.has("nolive"));
}
