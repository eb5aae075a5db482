// Model K: a home shares removed bytes of another home once that home has answered
// (docs/protocol.md O4, decision 0013; src/daemon/foreign_leases.cc, publisher.cc Seal).
//
// Node 1 is home B of two objects, X and Y; a publisher on node 0 holds leases on both.
// Anyone may remove them at any time. The publisher asks its home A to seal a table that
// refers to X, and to Y, of which A learns from X's record once it has leased X. A writes
// a cell for each and reads the slot again: readable is well, Retired is doubtful: a scan
// under way may have passed the new cell, and may pass the publisher's when that is
// cleared. A settles the cell and asks B anything. B scans and frees in one turn of its
// loop and answers between turns; after the answer A looks at the slot again.
// Between the rounds of one seal A releases what it holds, but for the doubtful ones:
//   keepcell    not those either: an answer is about a cell, which stays where it is
//   keepflag    it does, but still takes the object for sure: (planted) bug
// Another seal of A may clear a cell of no reference while this one waits, and write it
// anew (Abandon, Acquire). A question may come late, or never; both daemons may be killed
// at any step, and B's node may lose its dirty lines.
//
// Checked: O4 (what a sealed object refers to is not granted again; with "never" also:
// a publisher that holds both is not refused), S4 (a way to "all is free").
// Compile: -DPOST=0 | -DPOST=2.
#include "mc.hpp"
#ifndef POST
#  define POST 0
#endif
constexpr int kNodes = 2, kPosted = POST, A = 0, B = 1, kRefs = 2, kLate = 1;
enum Line { SLOT, CELL = SLOT + kRefs, PUB = CELL + kRefs, LINES = PUB + kRefs };

enum SlotState { SEALED = 1, RETIRED, FREE, SEALED_NEXT };  // the last: generation 2

enum StepA {
  A_IDLE,
  A_STORE,
  A_FLUSH,
  A_CHECK,
  A_RELEASE,  // after an attempt that has to wait
  A_SETTLE,
  A_WAIT,
  A_SEALED,
  A_CLEAR,  // of all cells; then idle
};
enum StepB {
  B_IDLE,
  B_RET_FLUSH,
  B_SCAN,  // + place
  B_FREE = B_SCAN + 2 * kRefs,
  B_FREE_FLUSH,
  B_FREE_SETTLE,
  B_NEXT_FLUSH,
  B_ADOPT,  // + line
  B_ADOPT_SETTLE = B_ADOPT + kRefs,
};
enum Stage { NO_MESSAGE, ASKED, ANSWERED };
#pragma pack(push, 1)
struct S : Mem<kNodes, LINES, kPosted> {
  // A: the reference in work; by reference, whether a cell stands, holds a reference
  // (acquired in this attempt), is sure, is doubtful in this attempt.
  uint8_t astep, aref, await, stands, acquired, sure, doubtful, rounds, requests, others;
  // Questions: [0] is the one that A waits for, [1] an older one. `asked`: the objects;
  // `same`: those whose cell is the one that was asked about (its number).
  uint8_t stage[1 + kLate], asked[1 + kLate], same[1 + kLate];
  // B: objects in the scan, seen leased; grace; what is granted again.
  uint8_t bstep, bref, ready, seen, bwait, grace[kRefs], granted, restarts_a, restarts_b;
  // The publisher: waits for an answer; its cells that are still written.
  uint8_t waits, holds, closing;
  void arrived(int, int, int, int) {}
};
#pragma pack(pop)
using Memory = Ops<S, kNodes, LINES, kPosted>;

static int D = 1, settle, settle_cell, grace_wait, rounds;
static bool hcrash, readerfirst, flat, late, losses, never;
static bool keepcell, keepflag;
static bool b_trustretired, b_nosettle, b_norecheck, b_nogen, b_nonumber, b_nolife,
    b_midscan, b_freelater, b_askfirst, b_adoptlate, b_adoptsure, b_keepforever, b_graceearly;

struct Model {
  MC<S>& mc;
  const S& s;
  void Out(S t, const char* label, int a = 0, int b = 0, bool noise = false) {
    memset(t.mask, 0, sizeof t.mask);  // all loads are LOAD!
    if (t.astep == A_SEALED && t.granted)
      viol("O4: bytes that a sealed object refers to are granted again");
    mc.emit(t, label, a, b, noise);
  }
  void emit(const S& t, const char* l, int a, int b, bool noise = false) {
    Out(t, l, a, b, noise);
  }
  static int OwnView(const S& t, int n, int line) {
    return t.dirty[n][line] != NONE ? t.dirty[n][line] : Memory::cur(t, n, line);
  }

  // --- home A -------------------------------------------------------------------------
  static void ClearCell(S& t, int r) {
    Memory::store(t, A, CELL + r, 0);
    t.stands &= ~(1 << r);
    if (!keepflag) t.sure &= ~(1 << r);
    for (int m = 0; m <= kLate; m++) t.same[m] &= ~(1 << r);
  }
  void Refuse(S& t) {
    if (never && s.holds == 3 && !s.closing)
      viol("O4: refused although its publisher holds all");
    t.waits = 0, t.astep = A_CLEAR, t.doubtful = 0, t.acquired = 0;
    t.stage[0] = t.asked[0] = t.same[0] = NO_MESSAGE;
  }
  void NextRef(S& t) {
    t.aref++;
    if (t.aref < kRefs && (flat || (t.acquired >> s.aref & 1))) {
      t.astep = t.stands >> t.aref & 1 ? A_CHECK : A_STORE;
      return;
    }
    t.aref = 0;
    if (t.acquired == (1 << kRefs) - 1) {
      t.astep = A_SEALED, t.waits = 0, t.doubtful = 0;
    } else if (!t.rounds) {
      Refuse(t);
    } else {
      t.rounds--;
      t.astep = A_RELEASE;
    }
  }
  void HomeA() {
    S t = s;
    switch (s.astep) {
      case A_IDLE:
        if (!s.waits) break;
        t.rounds = rounds, t.aref = 0;
        t.astep = s.stands & 1 ? A_CHECK : A_STORE;
        return Out(t, "A: is asked to seal");
      case A_STORE:
        Memory::store(t, A, CELL + s.aref, 1);
        t.stands |= 1 << s.aref;
        if (!keepflag) t.sure &= ~(1 << s.aref);
        t.astep = A_FLUSH;
        return Out(t, "A: writes a cell", s.aref);
      case A_FLUSH:
        if (!Memory::flush(t, A, CELL + s.aref)) break;
        t.astep = A_CHECK;
        return Out(t, "A: flush cell", s.aref);
      case A_CHECK:
        Memory::il(s, A, SLOT + s.aref, [&](S& u, int v) {
          const int bit = 1 << s.aref;
          const bool trusted = (s.sure & bit) != 0;
          bool good = v == SEALED || (b_nogen && v == SEALED_NEXT);
          if (good) u.sure |= bit;
          if (v == RETIRED) good = trusted || b_trustretired;
          if (trusted && b_norecheck) good = true;
          if (!good && v != RETIRED) {
            Refuse(u);
            return Out(u, "A: slot moved on, refused", s.aref, v);
          }
          (good ? u.acquired : u.doubtful) |= bit;
          NextRef(u);
          Out(u, good ? "A: lease holds" : "A: is Retired, doubtful", s.aref);
        });
        return;
      case A_RELEASE:  // ParentSet's destructor: what was acquired in this attempt
        for (int r = 0; r < kRefs && !keepcell; r++)
          if (s.acquired >> r & 1) {
            ClearCell(t, r);
            if (!Memory::flush(t, A, CELL + r)) return;
          }
        t.acquired = 0;
        t.await = b_nosettle ? 0 : settle_cell;
        if (b_askfirst) Ask(t);
        t.astep = A_SETTLE;
        return Out(t, "A: the attempt has to wait", s.doubtful);
      case A_SETTLE:  // TakeDoubtful: settled, then asked
        if (s.await) break;
        if (!b_askfirst) Ask(t);
        t.astep = A_WAIT;
        t.doubtful = 0;
        return Out(t, "A: cells have settled, asks", s.doubtful);
      case A_WAIT:
        if (s.stage[0] == ANSWERED) {
          Trust(t, 0);
          t.aref = 0;
          t.astep = t.stands & 1 ? A_CHECK : A_STORE;
          Out(t, "A: is answered, tries again", t.sure);
        }
        if (losses) {  // the deadline of the request; its answer may come yet
          t = s;
          if (late && !s.stage[1])
            t.stage[1] = s.stage[0], t.asked[1] = s.asked[0], t.same[1] = s.same[0];
          Refuse(t);
          Out(t, "A: waited too long, refused", 0, 0, true);
        }
        if (s.others)
          for (int r = 0; r < kRefs; r++) {
            S u = s;
            u.others--;
            if (s.stands >> r & 1) {
              ClearCell(u, r);
              if (!Memory::flush(u, A, CELL + r)) continue;
              Out(u, "A: another seal gives up and clears a cell", r, 0, true);
            } else {
              Memory::store(u, A, CELL + r, 1);
              if (!Memory::flush(u, A, CELL + r)) continue;
              u.stands |= 1 << r;
              Out(u, "A: another seal writes a cell anew", r, 0, true);
            }
          }
        return;
      case A_SEALED:
        t.astep = A_CLEAR, t.acquired = 0;
        return Out(t, "A: its object was removed, and is free");
      case A_CLEAR:
        for (int r = 0; r < kRefs; r++) {
          if (!(s.stands >> r & 1) || b_keepforever) continue;
          ClearCell(t, r);
          if (!Memory::flush(t, A, CELL + r)) return;
        }
        t.sure = 0;
        t.astep = A_IDLE;
        return Out(t, "A: cells are cleared");
    }
  }
  void Ask(S& t) {
    t.stage[0] = ASKED, t.asked[0] = s.doubtful;
    t.same[0] = s.doubtful & t.stands;
  }
  void Trust(S& t, int m) {
    t.sure |= b_nonumber ? t.asked[m] : t.same[m];
    t.stage[m] = t.asked[m] = t.same[m] = NO_MESSAGE;
  }
  void LateAnswer() {
    if (s.stage[1] == ANSWERED && s.astep != A_SEALED) {
      S t = s;
      Trust(t, 1);
      Out(t, "A: a late answer comes", t.sure);
    }
    if (s.stage[1]) {
      S t = s;
      t.stage[1] = t.asked[1] = t.same[1] = NO_MESSAGE;
      Out(t, "an older message is lost");
    }
  }
  void RestartA() {
    S t = s;
    t.restarts_a--;
    // Cells that no record explains are cleared; an answer of before is nobody's.
    if (s.astep != A_SEALED) {
      for (int r = 0; r < kRefs; r++) {
        if (b_adoptsure && OwnView(s, A, CELL + r)) {
          t.sure |= 1 << r;
          if (!Memory::flush(t, A, CELL + r)) return;
          continue;
        }
        Memory::store(t, A, CELL + r, 0);
        if (!Memory::flush(t, A, CELL + r)) return;
        t.stands &= ~(1 << r);
      }
      if (!b_adoptsure) t.sure = 0;
      t.astep = A_IDLE;
    }
    t.await = t.aref = t.acquired = t.doubtful = t.rounds = 0;
    const bool keep = b_nolife && s.stage[0];  // its number comes again
    t.stage[1] = keep ? s.stage[0] : 0, t.asked[1] = t.same[1] = keep ? s.asked[0] : 0;
    t.stage[0] = t.asked[0] = t.same[0] = NO_MESSAGE;
    Out(t, "daemon A is killed, the next one starts", 0, 0, true);
  }

  // --- home B -------------------------------------------------------------------------
  int Place(int i) const {  // the two orders of a scan
    return (i < kRefs) == readerfirst ? PUB + i % kRefs : CELL + i % kRefs;
  }
  void HomeB() {
    S t = s;
    if (s.bstep == B_IDLE || (b_midscan && s.bstep < B_ADOPT))
      for (int m = 0; m <= kLate; m++)
        if (s.stage[m] == ASKED) {
          t = s;
          t.stage[m] = ANSWERED;
          Out(t, "B: answers", m);
        }
    t = s;
    if (s.bstep >= B_SCAN && s.bstep < B_FREE) {
      const int i = s.bstep - B_SCAN, place = Place(i);
      return Memory::il(s, B, place, [&](S& u, int cell) {
        if (cell) u.seen |= 1 << (i % kRefs);
        u.bstep++;
        if (b_freelater && u.bstep == B_FREE) u.bstep = B_IDLE;
        Out(u, cell ? "B: scan finds a cell" : "B: scan, no cell", place);
      });
    }
    if (s.bstep >= B_ADOPT && s.bstep < B_ADOPT_SETTLE) {
      const int r = s.bstep - B_ADOPT;
      if (!Memory::flush(t, B, SLOT + r)) return;
      t.bstep++, t.bwait = settle;
      return Out(t, "B: flush slot of a former life", r);
    }
    if (s.bwait) return;
    switch (s.bstep) {
      case B_IDLE: {
        for (int r = 0; r < kRefs; r++) {
          t = s;
          if (OwnView(s, B, SLOT + r) == SEALED) {
            Memory::store(t, B, SLOT + r, RETIRED);
            t.bstep = B_RET_FLUSH, t.bref = r;
            Out(t, "B: an object is removed, slot := Retired", r);
          }
        }
        int ready = 0;
        for (int r = 0; r < kRefs; r++)
          if (OwnView(s, B, SLOT + r) == RETIRED && !s.grace[r]) ready |= 1 << r;
        t = s;
        t.ready = ready, t.seen = 0, t.bstep = B_SCAN;
        if (ready && !s.ready) Out(t, "B: begins a scan", ready);
        if (b_freelater && s.ready) {
          t = s;
          t.bstep = B_FREE;
          Out(t, "B: a turn later", s.ready);
        }
        if ((s.granted & 1) && OwnView(s, B, SLOT) == FREE) {
          t = s;
          Memory::store(t, B, SLOT, SEALED_NEXT);
          t.bstep = B_NEXT_FLUSH;
          Out(t, "B: slot of X := Sealed, next generation");
        }
        return;
      }
      case B_RET_FLUSH:
        if (!Memory::flush(t, B, SLOT + s.bref)) return;
        t.bstep = B_IDLE, t.grace[s.bref] = grace_wait, t.bref = 0;
        return Out(t, "B: flush slot (Retired)", s.bref);
      case B_FREE:
        for (int r = 0; r < kRefs; r++)
          if (s.ready & ~s.seen & (1 << r)) {
            Memory::store(t, B, SLOT + r, FREE);
            t.bstep = B_FREE_FLUSH, t.bref = r;
            return Out(t, "B: slot := Free", r);
          }
        t.ready = t.seen = 0, t.bstep = B_IDLE;
        return Out(t, "B: its scan is over");
      case B_FREE_FLUSH:
        if (!Memory::flush(t, B, SLOT + s.bref)) return;
        t.bstep = B_FREE_SETTLE, t.bwait = settle;
        return Out(t, "B: flush slot (Free)", s.bref);
      case B_FREE_SETTLE:
        t.granted |= 1 << s.bref;
        t.ready &= ~(1 << s.bref), t.bstep = B_FREE, t.bref = 0;
        return Out(t, "B: the range may be granted again", s.bref);
      case B_NEXT_FLUSH:
        if (!Memory::flush(t, B, SLOT)) return;
        t.bstep = B_IDLE;
        return Out(t, "B: flush slot of X (Sealed)");
      case B_ADOPT_SETTLE:
        for (int r = 0; r < kRefs; r++)
          if (OwnView(s, B, SLOT + r) == FREE) t.granted |= 1 << r;
        if (!b_graceearly) Grace(t);
        t.bstep = B_IDLE;
        return Out(t, "B: slots of the former life have settled", t.granted);
    }
  }
  static void Grace(S& t) {
    for (int r = 0; r < kRefs; r++)
      t.grace[r] = OwnView(t, B, SLOT + r) == RETIRED ? grace_wait : 0;
  }
  void RebuildB(S t, const char* what) {
    t.restarts_b--;
    t.bref = t.ready = t.seen = t.bwait = 0;
    t.bstep = b_adoptlate ? B_ADOPT_SETTLE : B_ADOPT;
    for (int r = 0; r < kRefs; r++) t.grace[r] = 0;
    if (b_graceearly) Grace(t);
    Out(t, what, 0, 0, true);
  }
  void RestartB() {
    RebuildB(s, "daemon B is killed, the next one starts");
    S t = s;
    for (int l = 0; l < LINES; l++) t.dirty[B][l] = NONE;
    if (hcrash) RebuildB(t, "node B reboots, its dirty lines are lost");
  }

  // --- the publisher: it may end at any time ------------------------------------------
  void Publisher() {
    S t = s;
    if (!s.waits && s.requests && s.astep == A_IDLE) {
      t.waits = 1, t.requests--;
      Out(t, "publisher: asks");
    }
    if (never && s.waits) return;
    for (int r = 0; r < kRefs; r++)
      if (s.holds >> r & 1) {
        t = s;
        Memory::store(t, A, PUB + r, 0);
        t.holds &= ~(1 << r), t.closing = 1;
        if (Memory::flush(t, A, PUB + r)) Out(t, "publisher: clears its cell", r);
      }
  }
  void Tick() {
    S t = s;
    bool any = s.await || s.bwait;
    t.await -= s.await != 0, t.bwait -= s.bwait != 0;
    for (int r = 0; r < kRefs; r++) any |= s.grace[r] != 0, t.grace[r] -= s.grace[r] != 0;
    if (any && Memory::tick(t, D)) Out(t, "tick");
  }
  void All() {
    Memory::noise(*this, s);
    HomeA();
    LateAnswer();
    HomeB();
    Publisher();
    if (s.restarts_a) RestartA();
    if (s.restarts_b && s.bstep < B_ADOPT) RestartB();
    if (kPosted) Tick();
  }
};

int main(int c, char** v) {
  Args a(c, v);
  D = a.num("D", 1);
  settle = kPosted ? D + 1 : 0, settle_cell = kPosted ? a.num("s_cell", D + 1) : 0;
  grace_wait = kPosted ? a.num("grace", 2 * D + 1) : 0;
  rounds = a.num("rounds", 3);
  hcrash = a.has("hcrash"), readerfirst = a.has("readerfirst"), flat = a.has("flat");
  late = a.has("late"), never = a.has("never"), losses = late || a.has("losses");
  keepcell = a.has("keepcell"), keepflag = a.has("keepflag");
#define BUG(x) b_##x = a.has("bug=" #x)
  BUG(trustretired);
  BUG(nosettle);
  BUG(norecheck);
  BUG(nogen);
  BUG(nonumber);
  BUG(nolife);
  BUG(midscan);
  BUG(freelater);
  BUG(askfirst);
  BUG(adoptlate);
  BUG(adoptsure);
  BUG(keepforever);
  BUG(graceearly);
  S s;
  Memory::init(s);
  memset(s.mask, 0, sizeof s.mask);
  for (int r = 0; r < kRefs; r++)
    Memory::set0(s, SLOT + r, SEALED), Memory::set0(s, PUB + r, 1);
  memset(s.mask, 0, sizeof s.mask);
  s.holds = (1 << kRefs) - 1, s.requests = a.num("requests", 1);
  s.others = a.num("others", 0);
  s.restarts_a = a.num("arestarts", 0), s.restarts_b = a.num("brestarts", 0);
  return Check<Model>(a, s, [](const S& t) {
    return t.granted == (1 << kRefs) - 1 && t.astep == A_IDLE && !t.waits &&
           !t.M[CELL] && !t.M[CELL + 1] && !t.holds;
  });
}
