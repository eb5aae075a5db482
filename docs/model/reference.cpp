// Model E: an object that refers to bytes of an object of another home (docs/protocol.md O4,
// F8, L11).
//
// Node 0 is home A, node 1 is home B. B's object (generations 1, 2) owns one range in B's
// segment. On request A leases B's object (O1, O2), writes the record, settles it, seals
// its own object, and keeps that lease until its object is Free. A reader leases A's
// object, reads the record, leases B's object, reads the bytes. B may retire its object
// at any moment (its name was deleted): the range must not be used again while A's object
// lives, and A's object must stay readable (property "O4").
// Compile: -DPOST=0 | -DPOST=2.
#include "mc.hpp"
#ifndef POST
#define POST 0
#endif
constexpr int kNodes = 2, kPosted = POST, A = 0, B = 1, kGenerations = 2;
enum Line {
  SLOT_A,
  RECORD_A,
  SLOT_B,
  DATA_B,
  CELL_REF,
  CELL_A,
  CELL_B,
  CELL_P,
  CELL_MOVED,
  LINES
};
// CELL_REF: the lease of daemon A on B's object. CELL_A, CELL_B: those of the reader.
// CELL_P: of the publisher, a session of node A that opened B's object and asks A to
// refer to it (option "publisher"; without it requests come from nowhere).
// CELL_MOVED: where a restarted A writes its lease anew (planted bug, O5).

enum SlotState { SEALED, RETIRED, FREE };
static int SlotValue(int gen, SlotState state) { return 1 + 3 * (gen - 1) + state; }
static int SlotGen(int v) { return v ? (v - 1) / 3 + 1 : 0; }
static SlotState StateOf(int v) { return v ? SlotState((v - 1) % 3) : FREE; }
static int RecordValue(int gen, int ref) { return 1 + 2 * (gen - 1) + ref - 1; }
static int RecordGen(int v) { return (v - 1) / 2 + 1; }
static int RecordRef(int v) { return (v - 1) % 2 + 1; }
static int Scratch(int gen) { return 2 * gen - 1; }
static int Final(int gen) { return 2 * gen; }

enum StepP {
  P_IDLE,
  P_CELL,
  P_CELL_FLUSH,
  P_RECHECK,
  P_HELD,
  P_ASKED,
  P_ANSWERED,
  P_CLEAR_FLUSH
};
enum StepA {
  A_IDLE,
  A_CELL,
  A_CELL_FLUSH,
  A_RECHECK,
  A_REC,
  A_REC_FLUSH,
  A_REC_SETTLE,
  A_SEAL_FLUSH,
  A_SEALED,
  A_RET_FLUSH,
  A_SCAN,
  A_FREE_FLUSH,
  A_FREE_SETTLE,
  A_CLEAR,
  A_CLEAR_FLUSH,
  A_OFF
};
enum StepB {
  B_SEAL_FLUSH,
  B_SEALED,
  B_RET_FLUSH,
  B_SCAN_REF,
  B_SCAN_PUB,
  B_SCAN_READER,
  B_FREE,
  B_FREE_FLUSH,
  B_FREE_SETTLE,
  B_SCRATCH,
  B_FINAL,
  B_DATA_FLUSH,
  B_SEAL
};
enum StepR {
  R_IDLE,
  R_CELL_A,
  R_FLUSH_A,
  R_RECHECK_A,
  R_RECORD,
  R_CELL_B,
  R_FLUSH_B,
  R_RECHECK_B,
  R_ASK,
  R_INVAL,
  R_READ,
  R_READ_AGAIN,
  R_CLOSE_B,
  R_CLOSE_B_FLUSH,
  R_CLOSE_A,
  R_CLOSE_A_FLUSH
};

#pragma pack(push, 1)
struct S : Mem<kNodes, LINES, kPosted> {
  uint8_t astep, agen, aref, await, requests, arestarts;
  uint8_t bstep, bgen, bwait, brestarts, moved, moved_read;
  uint8_t rstep, rgen, rref, opens, a_first;
  uint8_t pstep, pref;
  uint8_t ignores, ignored;  // the cells of A: B's scan that is under way, any so far
  void arrived(int line, int old, int value, int) {
    if (line != DATA_B || value == old) return;
    if ((value + 1) / 2 != bgen + 1)
      viol("S2: a write reaches memory while no writer owns the range");
  }
};
#pragma pack(pop)
using Memory = Ops<S, kNodes, LINES, kPosted>;

static int D = 1, settle_rec, settle_data, settle_own, grace, reader_node = 1,
           writer_node = 0;
static bool hcrash, aoff, reader_first;
// Variants of the rules.
static bool
    sealed_only;  // O4 as it was worded: the reader takes its lease on B's object by O2
static bool publisher;  // requests come from a session that leases B's object meanwhile
static bool accept_retired;  // O4 as it was worded: A accepts a Retired object that the
                             // publisher still leases
static bool reader_none;  // the reader takes no lease on B's object at all
static bool ignore_ref;  // F8: ALL cells of a node that is certified off are ignored
static bool ask_off;  // who leases a Retired object of B then asks B whether A is off
static bool b_noreflease, b_norecheck, b_clearearly, b_noclear, b_restartclears,
    b_restartkeeps, b_restartmoves, b_closeorder, b_norecflush, b_askfirst;

struct Model {
  MC<S>& mc;
  const S& s;
  void Out(S t, const char* label, int a = 0, int b = 0, bool noise = false) {
    for (int n = 0; n < kNodes;
         n++)  // only the reader's loads of data may hit a stale copy
      for (int l = 0; l < LINES; l++)
        if (l != DATA_B || n != reader_node) t.mask[n][l] = 0;
    mc.emit(t, label, a, b, noise);
  }
  void emit(const S& t, const char* l, int a, int b, bool noise = false) {
    Out(t, l, a, b, noise);
  }

  static bool MayRefer(int slot, int gen) {
    return slot && SlotGen(slot) == gen &&
           (StateOf(slot) == SEALED || (accept_retired && StateOf(slot) == RETIRED));
  }
  void HomeA() {
    S t = s;
    auto go = [&](StepA next, const char* label) {
      t.astep = next;
      Out(t, label, s.agen, s.aref);
    };
    switch (s.astep) {
      case A_IDLE:
        if (!s.requests || (publisher && s.pstep != P_HELD)) break;
        t.requests--;
        if (publisher) t.pstep = P_ASKED;
        Memory::il(t, A, SLOT_B, [&](S& u, int v) {
          if (!MayRefer(v, publisher ? s.pref : SlotGen(v))) {
            if (publisher) u.pstep = P_ANSWERED;
            return Out(u, "A: request is stale, refused", s.agen);
          }
          u.aref = SlotGen(v);
          u.astep = b_noreflease ? A_REC : A_CELL;
          Out(u, "A: request to refer to B's object", s.agen, u.aref);
        });
        break;
      case A_CELL:
        Memory::store(t, A, CELL_REF, s.aref);
        go(A_CELL_FLUSH, "A: stores its reference cell");
        break;
      case A_CELL_FLUSH:
        if (Memory::flush(t, A, CELL_REF))
          go(b_norecheck ? A_REC : A_RECHECK, "A: flush reference cell");
        break;
      case A_RECHECK:
        Memory::il(s, A, SLOT_B, [&](S& u, int v) {
          bool ok = MayRefer(v, s.aref);
          u.astep = ok ? A_REC : A_CLEAR;
          if (!ok && publisher) u.pstep = P_ANSWERED;
          Out(u, ok ? "A: lease on B's object holds" : "A: re-check fails, refused",
              s.agen, s.aref);
        });
        break;
      case A_REC:
        Memory::store(t, A, RECORD_A, RecordValue(s.agen, s.aref));
        go(b_norecflush ? A_REC_SETTLE : A_REC_FLUSH, "A: writes the record");
        break;
      case A_REC_FLUSH:
        if (!Memory::flush(t, A, RECORD_A)) break;
        t.await = settle_rec;
        go(A_REC_SETTLE, "A: flush record");
        break;
      case A_REC_SETTLE:
        if (s.await) break;
        Memory::store(t, A, SLOT_A, SlotValue(s.agen, SEALED));
        go(A_SEAL_FLUSH, "A: slot := Sealed");
        break;
      case A_SEAL_FLUSH:
        if (s.pstep == P_ASKED) t.pstep = P_ANSWERED;
        if (Memory::flush(t, A, SLOT_A)) go(A_SEALED, "A: flush slot (Sealed)");
        break;
      case A_SEALED:
        Memory::store(t, A, SLOT_A, SlotValue(s.agen, RETIRED));
        if (b_clearearly) {
          Memory::store(t, A, CELL_REF, 0);
          if (!Memory::flush(t, A, CELL_REF)) break;
        }
        go(A_RET_FLUSH, "A: slot := Retired");
        break;
      case A_RET_FLUSH:
        if (!Memory::flush(t, A, SLOT_A)) break;
        t.await = grace;
        go(A_SCAN, "A: flush slot (Retired)");
        break;
      case A_SCAN:
        if (s.await) break;
        Memory::il(s, A, CELL_A, [&](S& u, int cell) {
          if (cell == s.agen) return Out(u, "A: scan finds a lease", cell);
          Memory::store(u, A, SLOT_A, SlotValue(s.agen, FREE));
          u.astep = A_FREE_FLUSH;
          Out(u, "A: scan finds no lease, slot := Free", s.agen);
        });
        break;
      case A_FREE_FLUSH:
        if (!Memory::flush(t, A, SLOT_A)) break;
        t.await = settle_own;
        go(A_FREE_SETTLE, "A: flush slot (Free)");
        break;
      case A_FREE_SETTLE:
        if (s.await) break;
        if (s.agen == kGenerations)
          t.requests = 0;
        else
          t.agen++;
        go(b_noclear ? A_IDLE : A_CLEAR, "A: Free has settled, its references drop");
        break;
      case A_CLEAR:
        Memory::store(t, A, s.moved ? CELL_MOVED : CELL_REF, 0);
        t.aref = 0;
        go(A_CLEAR_FLUSH, "A: clears its reference cell");
        break;
      case A_CLEAR_FLUSH:
        if (!Memory::flush(t, A, s.moved ? CELL_MOVED : CELL_REF)) break;
        t.moved = 0;
        go(A_IDLE, "A: flush cleared reference cell");
        break;
    }
  }
  static int OwnView(const S& t, int n, int line) {
    return t.dirty[n][line] != NONE ? t.dirty[n][line] : Memory::cur(t, n, line);
  }
  static void LoseDirtyLines(S& t, int n) {
    for (int l = 0; l < LINES; l++) {
      t.dirty[n][l] = NONE;
      t.mask[n][l] = Memory::bit(Memory::cur(t, n, l));
    }
  }
  // The reference cells of a home follow from its records: kept for every object that is
  // not Free, cleared for every other one.
  void RebuildA(S t, const char* label) {
    int v = OwnView(t, A, SLOT_A);
    t.arestarts--;
    t.await = 0;
    // The number of the object in work; a Free one is counted already.
    t.agen = v && StateOf(v) != FREE ? SlotGen(v) : SlotGen(v) + 1;
    if (t.agen > kGenerations) t.agen = kGenerations, t.requests = 0;
    if (!v || StateOf(v) == FREE) {
      t.astep = v ? A_FREE_FLUSH : A_CLEAR;
      if (v && t.agen != SlotGen(v)) t.agen = SlotGen(v);  // A_FREE_SETTLE counts it
    } else {
      int record = OwnView(t, A, RECORD_A);
      if (!record || RecordGen(record) != t.agen)
        viol("R3: a sealed slot without its record");
      else
        t.aref = RecordRef(record);
      t.astep = StateOf(v) == SEALED ? A_SEAL_FLUSH : A_RET_FLUSH;
    }
    if (b_restartkeeps && t.astep == A_CLEAR) t.astep = A_IDLE;
    if (b_restartclears) {  // the old daemon is taken for a dead session: its page is
                            // cleared
      Memory::store(t, A, CELL_REF, 0);
      if (!Memory::flush(t, A, CELL_REF)) return;
    }
    if (b_restartmoves && t.aref && !t.moved) {  // the new one first, then the old one
      Memory::store(t, A, CELL_MOVED, t.aref);
      Memory::store(t, A, CELL_REF, 0);
      if (!Memory::flush(t, A, CELL_MOVED) || !Memory::flush(t, A, CELL_REF)) return;
      t.moved = 1;
    }
    Out(t, label, 0, 0, true);
  }
  void RebuildB(S t, const char* label) {
    int v = OwnView(t, B, SLOT_B);
    t.brestarts--;
    t.bwait = 0;
    t.bstep = StateOf(v) == SEALED    ? B_SEAL_FLUSH
              : StateOf(v) == RETIRED ? B_RET_FLUSH
                                      : B_FREE_FLUSH;
    t.bgen = SlotGen(v);
    Out(t, label, 0, 0, true);
  }
  void Restarts() {
    if (s.arestarts && s.astep != A_OFF) {
      RebuildA(s, "daemon A restarts");
      S t = s;
      LoseDirtyLines(t, A);
      if (hcrash && reader_node != A && (writer_node != A || s.bstep < B_SCRATCH))
        RebuildA(t, "node A reboots, its dirty lines are lost");
    }
    if (s.brestarts && s.bstep < B_SCRATCH) {
      RebuildB(s, "daemon B restarts");
      S t = s;
      LoseDirtyLines(t, B);
      if (hcrash && reader_node != B)
        RebuildB(t, "node B reboots, its dirty lines are lost");
    }
    if (aoff && s.astep != A_OFF && s.bstep < B_SCRATCH) {
      S t = s;
      LoseDirtyLines(t, A);
      t.astep = A_OFF;
      t.await = 0;
      t.bwait =
          kPosted ? (t.bwait > D + 1 ? t.bwait : D + 1) : 0;  // F8: B acts on it after D
      Out(t, "node A is certified off; its segment stays readable", 0, 0, true);
    }
  }

  void HomeB() {
    S t = s;
    auto go = [&](StepB next, const char* label) {
      t.bstep = next;
      Out(t, label, s.bgen);
    };
    // The cells may be read in any order; both are checked.
    StepB first = reader_first ? B_SCAN_READER : B_SCAN_REF;
    StepB after_pub = reader_first ? B_FREE : B_SCAN_READER;
    StepB after_ref = publisher ? B_SCAN_PUB : after_pub;
    StepB after_reader = reader_first ? B_SCAN_REF : B_FREE;
    auto scan = [&](Line cell, StepB next, const char* what) {
      Memory::il(t, B, cell, [&](S& u, int v) {
        u.moved_read = 0;
        u.bstep = v == s.bgen ? first : next;  // a lease: the scan starts again
        Out(u, v == s.bgen ? "B: scan finds a lease" : what, cell, v);
      });
    };
    // B stores that A is off before a scan begins to ignore its cells, and not within one.
    if (s.bstep == first && !s.bwait) {
      t.ignores = s.astep == A_OFF && ignore_ref;
      t.ignored |= t.ignores;
    }
    switch (s.bstep) {
      case B_SEAL_FLUSH:
        if (Memory::flush(t, B, SLOT_B)) go(B_SEALED, "B: flush slot (Sealed)");
        break;
      case B_SEALED:
        if (s.bgen == kGenerations) break;
        Memory::store(t, B, SLOT_B, SlotValue(s.bgen, RETIRED));
        go(B_RET_FLUSH, "B: slot := Retired");
        break;
      case B_RET_FLUSH:
        if (!Memory::flush(t, B, SLOT_B)) break;
        t.bwait = grace;
        go(first, "B: flush slot (Retired)");
        break;
      case B_SCAN_REF:
        if (s.bwait) break;
        if (t.ignores)
          go(after_ref, "B: ignores the cells of A");
        else if (b_restartmoves && !s.moved_read)
          Memory::il(s, B, CELL_MOVED, [&](S& u, int v) {
            u.moved_read = v != s.bgen;
            Out(u, "B: scan of the place where A may write anew", v);
          });
        else
          scan(CELL_REF, after_ref, "B: scan, A has no reference");
        break;
      case B_SCAN_PUB:
        if (s.bwait) break;
        scan(CELL_P, after_pub, "B: scan, the publisher has no lease");
        break;
      case B_SCAN_READER:
        if (s.bwait) break;
        scan(CELL_B, after_reader, "B: scan, the reader has no lease");
        break;
      case B_FREE:
        Memory::store(t, B, SLOT_B, SlotValue(s.bgen, FREE));
        go(B_FREE_FLUSH, "B: slot := Free");
        break;
      case B_FREE_FLUSH:
        if (!Memory::flush(t, B, SLOT_B)) break;
        t.bwait = settle_own;
        go(B_FREE_SETTLE, "B: flush slot (Free)");
        break;
      case B_FREE_SETTLE:
        if (s.bwait || (s.astep == A_OFF && writer_node == A)) break;
        go(B_SCRATCH, "B: range is free and granted to a writer");
        break;
      case B_SCRATCH:
        Memory::store(t, writer_node, DATA_B, Scratch(s.bgen + 1));
        go(B_FINAL, "writer: stores scratch");
        break;
      case B_FINAL:
        Memory::store(t, writer_node, DATA_B, Final(s.bgen + 1));
        go(B_DATA_FLUSH, "writer: stores final bytes");
        break;
      case B_DATA_FLUSH:
        if (!Memory::flush(t, writer_node, DATA_B)) break;
        t.bwait = settle_data;
        go(B_SEAL, "writer: flush");
        break;
      case B_SEAL:
        if (s.bwait) break;
        t.bgen++;
        Memory::store(t, B, SLOT_B, SlotValue(t.bgen, SEALED));
        go(B_SEAL_FLUSH, "B: slot := Sealed, next generation");
        break;
    }
  }

  void Reader() {
    int n = reader_node;
    S t = s;
    auto go = [&](StepR next, const char* label) {
      t.rstep = next;
      Out(t, label, s.rgen, s.rref);
    };
    if (n == A && s.astep == A_OFF) return;
    auto read = [&](StepR next) {
      Memory::ld(s, n, DATA_B, [&](S& u, int v) {
        if (v != Final(s.rref))
          viol("S1: a leased reader reads bytes that are not the sealed content");
        u.rstep = next;
        Out(u, "reader: reads the bytes", v);
      });
    };
    switch (s.rstep) {
      case R_IDLE:
        if (!s.opens) break;
        Memory::il(s, n, SLOT_A, [&](S& u, int v) {
          if (!v || StateOf(v) != SEALED) return;
          u.opens--;
          u.rgen = SlotGen(v);
          u.rstep = R_CELL_A;
          Out(u, "reader: sees A's object Sealed", u.rgen);
        });
        break;
      case R_CELL_A:
        Memory::store(t, n, CELL_A, s.rgen);
        go(R_FLUSH_A, "reader: stores its cell on A's object");
        break;
      case R_FLUSH_A:
        if (Memory::flush(t, n, CELL_A))
          go(R_RECHECK_A, "reader: flush cell on A's object");
        break;
      case R_RECHECK_A:
        Memory::il(s, n, SLOT_A, [&](S& u, int v) {
          bool ok = v == SlotValue(s.rgen, SEALED);
          u.rstep = ok ? R_RECORD : R_CLOSE_A;
          Out(u, ok ? "reader: lease on A's object holds" : "reader: re-check fails",
              s.rgen);
        });
        break;
      case R_RECORD:
        Memory::il(s, n, RECORD_A, [&](S& u, int v) {
          if (!v || RecordGen(v) != s.rgen)
            viol("S1: a leased reader finds the record of another object");
          u.rref = v ? RecordRef(v) : 0;
          u.rstep = reader_none                    ? R_INVAL
                    : b_askfirst && s.ignored ? R_CLOSE_A
                                              : R_CELL_B;
          Out(u, "reader: reads the record", s.rgen, u.rref);
        });
        break;
      case R_CELL_B:
        Memory::store(t, n, CELL_B, s.rref);
        go(R_FLUSH_B, "reader: stores its cell on B's object");
        break;
      case R_FLUSH_B:
        if (Memory::flush(t, n, CELL_B))
          go(R_RECHECK_B, "reader: flush cell on B's object");
        break;
      case R_RECHECK_B:
        Memory::il(s, n, SLOT_B, [&](S& u, int v) {
          bool ok = v == SlotValue(s.rref, SEALED) ||
                    (!sealed_only && v == SlotValue(s.rref, RETIRED));
          if (!ok && s.astep != A_OFF)
            viol("O4: an object that is not deleted cannot be opened");
          const bool asks = ask_off && !b_askfirst && v == SlotValue(s.rref, RETIRED);
          u.rstep = !ok ? R_CLOSE_B : asks ? R_ASK : R_INVAL;
          Out(u, ok ? "reader: lease on B's object holds" : "reader: B's object is gone",
              s.rref, v);
        });
        break;
      case R_ASK:  // B's word arrives at some time before a scan goes by it
        if (!s.ignored) go(R_INVAL, "reader: A is not off for B");
        if (s.astep == A_OFF) go(R_CLOSE_B, "reader: A is off for B: what it kept is lost");
        break;
      case R_INVAL:
        if (Memory::flush(t, n, DATA_B)) go(R_READ, "reader: invalidates the bytes");
        break;
      case R_READ:
        read(b_closeorder && !s.a_first ? R_CLOSE_A
             : reader_none              ? R_CLOSE_A
                                        : R_CLOSE_B);
        break;
      case R_READ_AGAIN:
        read(R_CLOSE_B);
        break;
      case R_CLOSE_B:
        Memory::store(t, n, CELL_B, 0);
        go(R_CLOSE_B_FLUSH, "reader: clears its cell on B's object");
        break;
      case R_CLOSE_B_FLUSH:
        if (!Memory::flush(t, n, CELL_B)) break;
        t.rref = 0;
        if (s.a_first) t.a_first = 0, t.rgen = 0;
        go(s.a_first ? R_IDLE : R_CLOSE_A, "reader: flush cleared cell on B's object");
        break;
      case R_CLOSE_A:
        Memory::store(t, n, CELL_A, 0);
        go(R_CLOSE_A_FLUSH, "reader: clears its cell on A's object");
        break;
      case R_CLOSE_A_FLUSH:
        if (!Memory::flush(t, n, CELL_A)) break;
        if (b_closeorder &&
            s.rref) {  // planted bug: the bytes are used after this lease is gone
          t.a_first = 1;
          go(R_READ_AGAIN, "reader: closes A's object first");
          break;
        }
        t.rgen = t.rref = 0;
        go(R_IDLE, "reader: flush cleared cell on A's object");
        break;
    }
  }

  void Tick() {
    if (!kPosted || !(s.await || s.bwait)) return;
    S t = s;
    t.await -= t.await != 0;
    t.bwait -= t.bwait != 0;
    if (Memory::tick(t, D)) Out(t, "tick");
  }
  void Publisher() {
    S t = s;
    auto go = [&](StepP next, const char* label) {
      t.pstep = next;
      Out(t, label, s.pref);
    };
    switch (s.pstep) {
      case P_IDLE:
        if (!s.requests) break;
        Memory::il(s, A, SLOT_B, [&](S& u, int v) {
          if (!v || StateOf(v) != SEALED) return;
          u.pref = SlotGen(v);
          u.pstep = P_CELL;
          Out(u, "publisher: sees B's object Sealed", u.pref);
        });
        break;
      case P_CELL:
        Memory::store(t, A, CELL_P, s.pref);
        go(P_CELL_FLUSH, "publisher: stores its cell");
        break;
      case P_CELL_FLUSH:
        if (Memory::flush(t, A, CELL_P)) go(P_RECHECK, "publisher: flush cell");
        break;
      case P_RECHECK:
        Memory::il(s, A, SLOT_B, [&](S& u, int v) {
          bool ok = v == SlotValue(s.pref, SEALED);
          u.pstep = ok ? P_HELD : P_ANSWERED;
          Out(u, ok ? "publisher: lease holds" : "publisher: re-check fails", s.pref);
        });
        break;
      case P_ANSWERED:
        Memory::store(t, A, CELL_P, 0);
        t.pref = 0;
        go(P_CLEAR_FLUSH, "publisher: clears its cell");
        break;
      case P_CLEAR_FLUSH:
        if (Memory::flush(t, A, CELL_P)) go(P_IDLE, "publisher: flush cleared cell");
        break;
    }
  }
  void All() {
    Memory::noise(*this, s);
    if (publisher) Publisher();
    HomeA();
    HomeB();
    Restarts();
    Reader();
    Tick();
  }
};

int main(int argc, char** argv) {
  Args a(argc, argv);
  D = a.num("D", 1);
  int settled = kPosted ? D + 1 : 0;
  settle_rec = kPosted ? a.num("s_rec", settled) : 0;
  settle_data = kPosted ? a.num("s_data", settled) : 0;
  settle_own = kPosted ? a.num("s_own", settled) : 0;
  grace = kPosted ? a.num("grace", 2 * D + 1) : 0;
  reader_node = a.num("r", 1);
  writer_node = a.num("w", 0);
  hcrash = a.has("hcrash");
  aoff = a.has("aoff");
  reader_first = a.has("readerfirst");
  sealed_only = a.has("sealedonly");
  publisher = a.has("publisher");
  accept_retired = a.has("acceptretired");
  reader_none = a.has("readernone");
  ignore_ref = a.has("ignoreref");
  ask_off = a.has("askoff");
#define BUG(x) b_##x = a.has("bug=" #x)
  BUG(noreflease);
  BUG(norecheck);
  BUG(clearearly);
  BUG(noclear);
  BUG(restartclears);
  BUG(restartkeeps);
  BUG(restartmoves);
  BUG(closeorder);
  BUG(norecflush);
  BUG(askfirst);
  S s;
  Memory::init(s);
  memset(s.mask, 0, sizeof s.mask);
  Memory::set0(s, SLOT_B, SlotValue(1, SEALED));
  Memory::set0(s, DATA_B, Final(1));
  s.mask[reader_node][DATA_B] |=
      1;  // the reader's node may still hold the bytes of before
  for (int n = 0; n < kNodes; n++)
    for (int l = 0; l < LINES; l++)
      if (l != DATA_B || n != reader_node) s.mask[n][l] = 0;
  s.agen = s.bgen = 1;
  s.bstep = B_SEALED;
  s.requests = a.num("requests", 2);
  s.arestarts = a.num("arestarts", 0);
  s.brestarts = a.num("brestarts", 0);
  s.opens = a.num("opens", 1);
  MC<S> mc;
  mc.quiet = a.has("quiet");
  mc.limit = a.num("limit", 40000000);
  // The range of B comes free and is used again, and A keeps no reference for ever.
  auto goal = [](const S& t) {
    return t.bgen == kGenerations && t.bstep == B_SEALED && t.astep == A_IDLE &&
           t.M[CELL_REF] == 0;
  };
  return mc.run(
      s, [](MC<S>& m, const S& st) { Model{m, st}.All(); }, goal, !a.has("nolive"));
}
