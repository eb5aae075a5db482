// Model D: grants and objects are two things (docs/protocol.md L10, L11, R3, D3).
//
// One home (node 0) grants ranges to writer sessions; a session seals objects out of the
// ranges of its grants, shares ranges of live objects of the same home (slices), and
// returns its grants. The home retires an object, waits GRACE, scans the lease cells,
// frees the slot and drops the object's references; a range that nothing holds any more
// is granted again, possibly to a writer on another node. Checked for every range by
// itself: S1 (a leased reader sees only the sealed bytes), S2 (no line of an earlier
// owner arrives after the range moved on), S4 (from every state there is a way to "all
// ranges are free").
//
// Who asks for what is a script per writer session (see `Scenario`); everything else,
// that is caches, posted writes, deaths, restarts and the moment of every retire, is free.
// Compile: -DPOST=0 (a fence means the write has arrived) | -DPOST=2 (it has left the node,
// arrives within D).
#include "mc.hpp"
#ifndef POST
#define POST 0
#endif
constexpr int kNodes = 2, kPosted = POST, kRanges = 2, kSlots = 2, kSessions = 2,
              kReaders = 2;
constexpr int kGrants = 4, kObjects = 3;  // indices start at 1; 0 means "none"

// One memory line per range, per control line and per lease cell.
enum Line { DATA = 0, GRANT = 2, SLOT = 4, RECORD = 6, CELL = 8, LINES = 10 };

// --- scenarios ------------------------------------------------------------------------
enum OpKind { END, GET, SCRATCH, FINAL, FLUSHR, SETTLE, SEAL, RETURN };
struct Op {
  OpKind kind;
  int what, grant;  // what: a range, or the object of SEAL
};
struct Grant {
  int slot, gen, ranges, session;  // ranges: a bit mask
};
struct Object {
  int slot, gen, source[kRanges], session, parent;  // source: the grant of each range
};
struct Scenario {
  const char* name;
  Grant grant[kGrants + 1];
  Object object[kObjects + 1];
  Op script[kSessions][20];
};
// The second session takes over a range of the first one as soon as the home has it back.
static const Scenario kScenarios[] = {
    {"two",  // one grant, two objects sealed out of it; the first range is used again
     {{}, {0, 1, 3, 0}, {1, 1, 1, 1}},
     {{}, {0, 1, {1, 0}, 0, 0}, {1, 1, {0, 1}, 0, 0}, {0, 2, {2, 0}, 1, 0}},
     {{{GET, 0, 1},
       {SCRATCH, 0, 1},
       {FINAL, 0, 1},
       {FLUSHR, 0, 1},
       {SETTLE},
       {SEAL, 1},
       {FINAL, 1, 1},
       {FLUSHR, 1, 1},
       {SETTLE},
       {SEAL, 2},
       {RETURN, 0, 1},
       {END}},
      {{GET, 0, 2},
       {SCRATCH, 0, 2},
       {FINAL, 0, 2},
       {FLUSHR, 0, 2},
       {SETTLE},
       {SEAL, 3},
       {RETURN, 0, 2},
       {END}}}},
    {"over",  // one object over two grants, then a grant of one of the two ranges
     {{}, {0, 1, 1, 0}, {1, 1, 2, 0}, {0, 2, 1, 1}},
     {{}, {0, 1, {1, 2}, 0, 0}, {0, 2, {3, 0}, 1, 0}},
     {{{GET, 0, 1},
       {GET, 0, 2},
       {SCRATCH, 0, 1},
       {FINAL, 0, 1},
       {FINAL, 1, 2},
       {FLUSHR, 0, 1},
       {FLUSHR, 1, 2},
       {SETTLE},
       {SEAL, 1},
       {RETURN, 0, 1},
       {RETURN, 0, 2},
       {END}},
      {{GET, 0, 3},
       {SCRATCH, 0, 3},
       {FINAL, 0, 3},
       {FLUSHR, 0, 3},
       {SETTLE},
       {SEAL, 2},
       {RETURN, 0, 3},
       {END}}}},
    {"slice",  // object 2 is a slice of object 1 and may outlive it; both ranges are used
               // again
     {{}, {0, 1, 3, 0}, {1, 1, 1, 1}, {0, 2, 2, 1}},
     {{}, {0, 1, {1, 1}, 0, 0}, {1, 1, {1, 0}, 0, 1}, {0, 2, {2, 0}, 1, 0}},
     {{{GET, 0, 1},
       {FINAL, 0, 1},
       {FINAL, 1, 1},
       {FLUSHR, 0, 1},
       {FLUSHR, 1, 1},
       {SETTLE},
       {SEAL, 1},
       {SEAL, 2},
       {RETURN, 0, 1},
       {END}},
      {{GET, 0, 2},
       {SCRATCH, 0, 2},
       {FINAL, 0, 2},
       {FLUSHR, 0, 2},
       {SETTLE},
       {SEAL, 3},
       {RETURN, 0, 2},
       {GET, 0, 3},
       {SCRATCH, 1, 3},
       {FLUSHR, 1, 3},
       {SETTLE},
       {RETURN, 0, 3},
       {END}}}},
    {"tail",  // range 1 of the first grant is scratched and never sealed: it goes back
              // still open
     {{}, {0, 1, 3, 0}, {1, 1, 2, 1}},
     {{}, {0, 1, {1, 0}, 0, 0}, {1, 1, {0, 2}, 1, 0}},
     {{{GET, 0, 1},
       {SCRATCH, 1, 1},
       {FINAL, 0, 1},
       {FLUSHR, 0, 1},
       {SETTLE},
       {SEAL, 1},
       {FLUSHR, 1, 1},
       {SETTLE},
       {RETURN, 0, 1},
       {END}},
      {{GET, 0, 2},
       {SCRATCH, 1, 2},
       {FINAL, 1, 2},
       {FLUSHR, 1, 2},
       {SETTLE},
       {SEAL, 2},
       {RETURN, 0, 2},
       {END}}}},
};
static Scenario sc;

// --- values of lines ------------------------------------------------------------------
static int Scratch(int grant) {
  return 2 * grant - 1;
}  // data: half-built bytes of a grant's owner
static int Final(int grant) { return 2 * grant; }  // data: the bytes that get sealed
static int WriterOf(int data) { return (data + 1) / 2; }
static int GrantValue(int gen, bool owned) { return 2 * gen + owned; }
enum SlotState { SEALED, RETIRED, FREE };
static int SlotValue(int gen, SlotState state) { return 1 + 3 * (gen - 1) + state; }
static int SlotGen(int v) { return v ? (v - 1) / 3 + 1 : 0; }
static SlotState StateOf(int v) { return v ? SlotState((v - 1) % 3) : FREE; }
static bool Has(int object, int range) { return sc.object[object].source[range] != 0; }
// A shared range belongs to the grant that the parent took it from, not to the object
// that shares it.
static bool Shared(int object, int range) {
  return Has(object, range) && sc.object[object].parent;
}
static int ObjectAt(int slot, int gen) {
  for (int j = 1; j <= kObjects; j++)
    if (gen > 0 && sc.object[j].gen == gen && sc.object[j].slot == slot) return j;
  return 0;
}

enum GrantStep {
  G_NONE,
  G_OWN_FLUSH,
  G_SEND,
  G_OWNED,
  G_FREE_FLUSH,
  G_FREE_SETTLE,
  G_DONE
};
enum ObjectStep {
  O_NONE,
  O_REC_FLUSH,
  O_REC_SETTLE,
  O_SLOT_FLUSH,
  O_SEALED,
  O_RET_FLUSH,
  O_SCAN,
  O_FREE,
  O_FREE_FLUSH,
  O_FREE_SETTLE,
  O_DONE,
  O_REFUSED
};
enum ReaderStep {
  R_IDLE,
  R_CELL,
  R_CELL_FLUSH,
  R_RECHECK,
  R_RECORD,
  R_INVAL,
  R_READ,
  R_CLOSE,
  R_CLOSE_FLUSH
};
enum DeathStep { D_NONE, D_WAIT, D_RETURNED };

#pragma pack(push, 1)
struct S : Mem<kNodes, LINES, kPosted> {
  // The home daemon: all of this is lost when it restarts.
  uint8_t gstep[kGrants + 1], gwait[kGrants + 1],
      open[kRanges];  // open: the grant a range is open in
  uint8_t ostep[kObjects + 1], owait[kObjects + 1], scan[kObjects + 1];
  uint8_t forgot;  // planted bug: the last rebuild did not take the shared references
  // Requests and answers, one bit per grant or object. Requests stay until they are
  // answered.
  uint8_t asked, granted, returned, seal, sealed, refused;
  uint8_t known;  // the publisher has seen the answer: somebody will delete the object
  // Writer sessions and the daemon that cleans up after them.
  uint8_t pc[kSessions], wait[kSessions], dead, death[kGrants + 1], dwait[kGrants + 1];
  uint8_t rstep[kReaders], robject[kReaders], rrange[kReaders], opens[kReaders];
  uint8_t restarts;
  uint8_t owner[kRanges];  // ghost: the grant whose bytes the range holds, 0 = it is in
                           // the pool
  void arrived(int line, int old, int value, int node);
};
#pragma pack(pop)
using Memory = Ops<S, kNodes, LINES, kPosted>;

static int D = 1, settle_data, settle_free, settle_own, settle_gfree, settle_rec, grace,
           readers = 1;
static int session_node[kSessions] = {1, 0}, reader_node = 1;
static bool crash, hcrash;
static bool b_noshare, b_freecount, b_norecflush, b_retfrees, b_forget, b_deadnoflush,
    b_retnoflush, b_bystate, b_noreqid, b_early, b_dropearly, b_orphan, b_anygrant;

static bool Covers(int grant, int range) { return sc.grant[grant].ranges >> range & 1; }
static bool Live(int ostep) { return ostep >= O_REC_FLUSH && ostep <= O_FREE_SETTLE; }
// L10: the reference count of a range, derived from the objects, so that it cannot drift.
static int Count(const S& s, int range) {
  int count = 0;
  for (int j = 1; j <= kObjects; j++) {
    if (!Has(j, range) || !Live(s.ostep[j])) continue;
    int source = sc.object[j].source[range];
    if ((b_noshare || s.forgot) && Shared(j, range)) continue;
    if (b_retfrees && s.gstep[source] == G_DONE) continue;
    if (b_dropearly && s.ostep[j] >= O_FREE_FLUSH) continue;
    bool dropped =
        false;  // planted bug: the first object that goes takes the range with it
    for (int i = 1; i <= kObjects; i++)
      dropped |=
          b_freecount && s.ostep[i] == O_DONE && sc.object[i].source[range] == source;
    count += !dropped;
  }
  return count;
}
// A range is free when no object counts on it AND no grant that covers it is still Owned.
// Without the second half a restart finds the range in two grants (planted bug "early").
static bool RangeFree(const S& s, int range) {
  for (int k = 1; k <= kGrants; k++) {
    bool held =
        s.gstep[k] >= G_OWN_FLUSH && s.gstep[k] <= G_FREE_SETTLE && Covers(k, range);
    if (held && (!b_early || s.open[range] == k)) return false;
  }
  return Count(s, range) == 0;
}

void S::arrived(int line, int old, int value, int) {
  if (line >= DATA + kRanges) return;
  int range = line - DATA, writer = WriterOf(value);
  if (value && writer != owner[range])
    viol("S2: a line of an earlier owner reaches memory after the range moved on");
  for (int j = 1; j <= kObjects; j++)
    if (Has(j, range) && sc.object[j].source[range] == writer &&
        ostep[j] >= O_SLOT_FLUSH && ostep[j] <= O_FREE && value != old)
      viol("S2: a write reaches memory after the seal");
}

struct Model {
  MC<S>& mc;
  const S& s;

  // Every successor goes through here: only the data lines of readers are ever loaded
  // without an invalidate, so other clean copies need no tracking; ranges that nothing
  // holds go to the pool.
  void Out(S t, const char* label, int a = 0, int b = 0, bool noise = false) {
    for (int n = 0; n < kNodes; n++)
      for (int l = 0; l < LINES; l++)
        if (l >= DATA + kRanges || n != reader_node) t.mask[n][l] = 0;
    for (int r = 0; r < kRanges; r++)
      if (RangeFree(t, r)) t.owner[r] = 0;
    mc.emit(t, label, a, b, noise);
  }
  void emit(const S& t, const char* l, int a, int b, bool noise = false) {
    Out(t, l, a, b, noise);
  }

  // --- the home: grants ---------------------------------------------------------------
  bool CanGrant(int k) {
    if (!(s.asked >> k & 1)) return false;
    for (int i = 1; i < k;
         i++) {  // in the order of the table; one generation of a line at a time
      bool never = (s.dead >> sc.grant[i].session & 1) && !(s.asked >> i & 1);
      bool over = s.gstep[i] == G_DONE || never;
      bool started = s.gstep[i] != G_NONE || never;
      if (!started || (sc.grant[i].slot == sc.grant[k].slot && !over)) return false;
    }
    for (int r = 0; r < kRanges; r++)
      if (Covers(k, r) && !RangeFree(s, r)) return false;
    return true;
  }
  void HomeGrant(int k) {
    const Grant& g = sc.grant[k];
    int line = GRANT + g.slot;
    S t = s;
    switch (s.gstep[k]) {
      case G_NONE:
        if (!CanGrant(k)) break;
        Memory::store(t, 0, line, GrantValue(g.gen, true));
        for (int r = 0; r < kRanges; r++)
          if (Covers(k, r)) t.open[r] = t.owner[r] = k;
        t.gstep[k] = G_OWN_FLUSH;
        Out(t, "home: grant line := Owned", k);
        break;
      case G_OWN_FLUSH:
        if (!Memory::flush(t, 0, line)) break;
        t.gwait[k] = settle_own;
        t.gstep[k] = G_SEND;
        Out(t, "home: flush grant line (Owned)", k);
        break;
      case G_SEND:
        if (s.gwait[k]) break;
        t.granted |= 1 << k;
        t.gstep[k] = G_OWNED;
        Out(t, "home: sends the grant", k);
        break;
      case G_OWNED:
        if (!(s.returned >> k & 1)) break;
        Memory::store(t, 0, line, GrantValue(g.gen, false));
        t.gstep[k] = G_FREE_FLUSH;
        Out(t, "home: takes the return, grant line := Free", k);
        break;
      case G_FREE_FLUSH:
        if (!Memory::flush(t, 0, line)) break;
        t.gwait[k] = settle_gfree;
        t.gstep[k] = G_FREE_SETTLE;
        Out(t, "home: flush grant line (Free)", k);
        break;
      case G_FREE_SETTLE:
        if (s.gwait[k]) break;
        t.gstep[k] = G_DONE;
        for (int r = 0; r < kRanges; r++)
          if (t.open[r] == k) t.open[r] = 0;
        Out(t, "home: grant is over, its open ranges go back", k);
        break;
    }
  }

  // --- the home: objects --------------------------------------------------------------
  // The guard of a seal request: every own range is open in an Owned grant of the
  // requester, and every shared range lies in the object NAMED by the request (slot and
  // generation), which is not yet Free.
  bool CanSeal(int j) {
    const Object& o = sc.object[j];
    for (int r = 0; r < kRanges; r++) {
      if (!Has(j, r)) continue;
      if (!Shared(j, r)) {
        bool mine = s.gstep[o.source[r]] == G_OWNED && s.open[r] == o.source[r];
        if (!mine && !(b_anygrant && s.open[r])) return false;
        continue;
      }
      bool alive = false;
      for (int p = 1; p <= kObjects; p++) {
        bool match = p == o.parent || (b_bystate && p != j && Has(p, r));
        if (match && s.ostep[p] >= O_SLOT_FLUSH && s.ostep[p] <= O_FREE) alive = true;
      }
      if (!alive) return false;
    }
    return true;
  }
  bool SlotIsOver(int j) {
    const Object& o = sc.object[j];
    int before = ObjectAt(o.slot, o.gen - 1);
    if (!before || s.ostep[before] == O_DONE || s.ostep[before] == O_REFUSED) return true;
    bool requested = s.seal >> before & 1;  // a publisher that died earlier never asks
    return s.ostep[before] == O_NONE && (s.dead >> sc.object[before].session & 1) &&
           !requested;
  }
  // Somebody knows the object and will delete it: the publisher got the answer; or it
  // died and the home retires what it sealed for that session and was never acknowledged.
  bool HasDeleter(int j) {
    if (s.known >> j & 1) return true;
    return (s.dead >> sc.object[j].session & 1) && !b_orphan;
  }
  void HomeObject(int j) {
    const Object& o = sc.object[j];
    int line = SLOT + o.slot, record = RECORD + o.slot;
    S t = s;
    switch (s.ostep[j]) {
      case O_NONE:
        if (!(s.seal >> j & 1)) break;
        if (!CanSeal(j)) {
          t.seal &= ~(1 << j);
          t.refused |= 1 << j;
          t.ostep[j] = O_REFUSED;
          Out(t, "home: seal request is stale", j);
          break;
        }
        if (!SlotIsOver(j)) break;
        Memory::store(t, 0, record, j);
        for (int r = 0; r < kRanges; r++)
          if (Has(j, r) && !Shared(j, r)) t.open[r] = 0;
        t.ostep[j] = b_norecflush ? O_REC_SETTLE : O_REC_FLUSH;
        Out(t, "home: takes the references, writes the record", j);
        break;
      case O_REC_FLUSH:
        if (!Memory::flush(t, 0, record)) break;
        t.owait[j] = settle_rec;
        t.ostep[j] = O_REC_SETTLE;
        Out(t, "home: flush record", j);
        break;
      case O_REC_SETTLE:
        if (s.owait[j]) break;
        Memory::store(t, 0, line, SlotValue(o.gen, SEALED));
        t.ostep[j] = O_SLOT_FLUSH;
        Out(t, "home: slot := Sealed", j);
        break;
      case O_SLOT_FLUSH:
        if (!Memory::flush(t, 0, line)) break;
        if (b_norecflush && !Memory::flush(t, 0, record)) break;
        t.ostep[j] = O_SEALED;
        Out(t, "home: flush slot (Sealed)", j);
        break;
      case O_SEALED:
        if (s.seal >> j & 1) {
          t.seal &= ~(1 << j);
          t.sealed |= 1 << j;
          Out(t, "home: answers sealed", j);
        }
        if (!HasDeleter(j)) break;
        t = s;
        Memory::store(t, 0, line, SlotValue(o.gen, RETIRED));
        t.ostep[j] = O_RET_FLUSH;
        Out(t, "home: slot := Retired", j);
        break;
      case O_RET_FLUSH:
        if (!Memory::flush(t, 0, line)) break;
        t.owait[j] = grace;
        t.scan[j] = 0;
        t.ostep[j] = O_SCAN;
        Out(t, "home: flush slot (Retired)", j);
        break;
      case O_SCAN:
        if (s.owait[j]) break;
        if (s.scan[j] == readers) {
          t.scan[j] = 0;
          t.ostep[j] = O_FREE;
          Out(t, "home: scan found no lease", j);
          break;
        }
        Memory::il(s, 0, CELL + s.scan[j], [&](S& u, int cell) {
          u.scan[j] = cell == j ? 0 : s.scan[j] + 1;
          Out(u, cell == j ? "home: scan finds a lease" : "home: scan, cell is another",
              j, cell);
        });
        break;
      case O_FREE:
        Memory::store(t, 0, line, SlotValue(o.gen, FREE));
        t.ostep[j] = O_FREE_FLUSH;
        Out(t, "home: slot := Free", j);
        break;
      case O_FREE_FLUSH:
        if (!Memory::flush(t, 0, line)) break;
        t.owait[j] = settle_own;
        t.ostep[j] = O_FREE_SETTLE;
        Out(t, "home: flush slot (Free)", j);
        break;
      case O_FREE_SETTLE:
        if (s.owait[j]) break;
        t.ostep[j] = O_DONE;
        Out(t, "home: drops the references of the object", j);
        break;
    }
  }

  // --- restart of the home daemon, or reboot of the home node (R1, R2, R3) ------------
  static int OwnView(const S& t, int line) {
    return t.dirty[0][line] != NONE ? t.dirty[0][line] : Memory::cur(t, 0, line);
  }
  // Everything volatile is computed again from the grant lines and the slots with their
  // records.
  void Rebuild(S t, const char* label) {
    t.restarts--;
    for (int k = 1; k <= kGrants; k++) {
      const Grant& g = sc.grant[k];
      if (!g.ranges) continue;
      int v = OwnView(t, GRANT + g.slot), gen = v / 2;
      t.gwait[k] = 0;
      t.gstep[k] = g.gen < gen   ? G_DONE
                   : g.gen > gen ? G_NONE
                   : v % 2       ? G_OWN_FLUSH
                                 : G_FREE_FLUSH;
    }
    for (int j = 1; j <= kObjects; j++) {
      const Object& o = sc.object[j];
      if (!o.gen) continue;
      int v = OwnView(t, SLOT + o.slot), gen = SlotGen(v);
      t.owait[j] = t.scan[j] = 0;
      if (t.refused >> j & 1)
        continue;  // answered; a late copy of the request is stale as before
      static const ObjectStep resume[] = {O_SLOT_FLUSH, O_RET_FLUSH, O_FREE_FLUSH};
      t.ostep[j] = o.gen < gen ? O_DONE : o.gen > gen ? O_NONE : resume[StateOf(v)];
      bool found = o.gen == gen && StateOf(v) != FREE;
      if (found && OwnView(t, RECORD + o.slot) != j)
        viol("R3: a sealed slot without its record");
      // Planted bug: the repeated request is not recognised by an id in the record, so
      // the home refuses it (its ranges are not open any more) although the object
      // stands.
      if (b_noreqid && found && (t.seal >> j & 1))
        t.seal &= ~(1 << j), t.refused |= 1 << j;
    }
    t.forgot = b_forget;
    for (int r = 0; r < kRanges; r++) {
      t.open[r] = 0;
      int holder = 0;
      for (int k = 1; k <= kGrants; k++) {
        if (t.gstep[k] != G_OWN_FLUSH || !Covers(k, r)) continue;
        if (holder) viol("S2: after the restart two grants hold the range");
        holder = k;
      }
      bool from_holder = false;
      for (int j = 1; j <= kObjects; j++) {
        if (!Has(j, r) || (t.ostep[j] != O_SLOT_FLUSH && t.ostep[j] != O_RET_FLUSH))
          continue;
        int source = sc.object[j].source[r];
        if (holder && source != holder)
          viol("S2: after the restart an object and a grant hold the range");
        from_holder |= source == holder;
      }
      if (holder && !from_holder) t.open[r] = holder;
    }
    Out(t, label, 0, 0, true);
  }
  void Restart() {
    if (!s.restarts) return;
    Rebuild(s, "home daemon restarts");
    if (!hcrash) return;
    S t = s;
    for (int l = 0; l < LINES; l++) {
      t.dirty[0][l] = NONE;
      t.mask[0][l] = Memory::bit(Memory::cur(t, 0, l));
    }
    for (int w = 0; w < kSessions; w++)
      if (session_node[w] == 0 && CurrentOp(w).kind != END)
        t.dead |= 1 << w, t.wait[w] = 0;
    Rebuild(t, "home node reboots, its dirty lines are lost");
  }

  // --- writer sessions and the daemon of their node -----------------------------------
  const Op& CurrentOp(int w) { return sc.script[w][s.pc[w]]; }
  void Session(int w) {
    const Op& op = CurrentOp(w);
    int node = session_node[w];
    S t = s;
    if ((s.dead >> w & 1) || op.kind == END) return;
    if (crash) {
      t.dead |= 1 << w;
      t.wait[w] = 0;
      Out(t, "session dies", w, s.pc[w], true);
      t = s;
    }
    t.pc[w]++;
    switch (op.kind) {
      case GET:
        if (!(s.asked >> op.grant & 1)) {
          t.asked |= 1 << op.grant;
          t.pc[w] = s.pc[w];
          Out(t, "session: asks for a grant", w, op.grant);
        } else if (s.granted >> op.grant & 1) {
          Out(t, "session: has the grant", w, op.grant);
        }
        break;
      case SCRATCH:
      case FINAL:
        if (s.owner[op.what] != op.grant)
          viol("S2: store into a range that belongs to another owner");
        Memory::store(t, node, DATA + op.what,
                      op.kind == FINAL ? Final(op.grant) : Scratch(op.grant));
        Out(t,
            op.kind == FINAL ? "session: stores final bytes" : "session: stores scratch",
            w, op.what);
        break;
      case FLUSHR: {
        bool sealed_later =
            false;  // planted bug: an unused tail is returned without a flush
        for (int j = 1; j <= kObjects; j++)
          sealed_later |= sc.object[j].source[op.what] == op.grant;
        if (b_retnoflush && !sealed_later) {
          Out(t, "session: does not flush the tail", w, op.what);
          break;
        }
        if (!Memory::flush(t, node, DATA + op.what)) break;
        Out(t, "session: flushes range", w, op.what);
        break;
      }
      case SETTLE:
        t.wait[w] = settle_data;
        Out(t, "session: settles", w);
        break;
      case SEAL:
        if (s.wait[w]) break;
        if (!((s.seal | s.sealed | s.refused) >> op.what & 1)) {
          t.seal |= 1 << op.what;
          t.pc[w] = s.pc[w];
          Out(t, "session: asks for the seal", w, op.what);
        } else if ((s.sealed | s.refused) >> op.what & 1) {
          t.known |= s.sealed & 1 << op.what;
          Out(t, "session: has the answer to the seal", w, op.what);
        }
        break;
      case RETURN:
        if (s.wait[w]) break;
        t.returned |= 1 << op.grant;
        Out(t, "session: returns the grant", w, op.grant);
        break;
      case END:
        break;
    }
  }
  // D3: the daemon of the node flushes the ranges of a dead session's grants, settles,
  // returns them. A grant that arrives later goes the same way.
  void Undertaker(int k) {
    int w = sc.grant[k].session;
    if (!(s.dead >> w & 1) || !(s.granted >> k & 1)) return;
    S t = s;
    if (s.death[k] == D_NONE && !(s.returned >> k & 1)) {
      for (int r = 0; r < kRanges; r++)
        if (Covers(k, r) && !b_deadnoflush &&
            !Memory::flush(t, session_node[w], DATA + r))
          return;
      t.dwait[k] = settle_free;
      t.death[k] = D_WAIT;
      Out(t, "daemon: flushes the grant of a dead session", k);
    } else if (s.death[k] == D_WAIT && !s.dwait[k]) {
      t.returned |= 1 << k;
      t.death[k] = D_RETURNED;
      Out(t, "daemon: returns the grant of a dead session", k);
    }
  }

  // --- readers ------------------------------------------------------------------------
  int NextRange(int j, int from) {
    while (from < kRanges && !Has(j, from)) from++;
    return from;
  }
  void Reader(int i) {
    int j = s.robject[i], n = reader_node, cell = CELL + i;
    S t = s;
    switch (s.rstep[i]) {
      case R_IDLE:
        if (!s.opens[i]) break;
        for (int slot = 0; slot < kSlots; slot++)
          Memory::il(s, n, SLOT + slot, [&](S& u, int v) {
            if (!v || StateOf(v) != SEALED) return;
            u.robject[i] = ObjectAt(slot, SlotGen(v));
            u.opens[i]--;
            u.rstep[i] = R_CELL;
            Out(u, "reader: sees Sealed", i, u.robject[i]);
          });
        break;
      case R_CELL:
        Memory::store(t, n, cell, j);
        t.rstep[i] = R_CELL_FLUSH;
        Out(t, "reader: stores its cell", i, j);
        break;
      case R_CELL_FLUSH:
        if (!Memory::flush(t, n, cell)) break;
        t.rstep[i] = R_RECHECK;
        Out(t, "reader: flush cell", i, j);
        break;
      case R_RECHECK:
        Memory::il(s, n, SLOT + sc.object[j].slot, [&](S& u, int v) {
          bool ok = v == SlotValue(sc.object[j].gen, SEALED);
          u.rstep[i] = ok ? R_RECORD : R_CLOSE;
          Out(u, ok ? "reader: lease holds" : "reader: re-check fails", i, j);
        });
        break;
      case R_RECORD:
        Memory::il(s, n, RECORD + sc.object[j].slot, [&](S& u, int v) {
          if (v != j) viol("S1: a leased reader finds the record of another object");
          u.rrange[i] = NextRange(j, 0);
          u.rstep[i] = R_INVAL;
          Out(u, "reader: reads the record", i, v);
        });
        break;
      case R_INVAL:
        for (int r = 0; r < kRanges; r++)
          if (Has(j, r) && !Memory::flush(t, n, DATA + r)) return;
        t.rstep[i] = R_READ;
        Out(t, "reader: invalidates the ranges", i, j);
        break;
      case R_READ:
        Memory::ld(s, n, DATA + s.rrange[i], [&](S& u, int v) {
          if (v != Final(sc.object[j].source[s.rrange[i]]))
            viol("S1: a leased reader reads bytes that are not the sealed content");
          u.rrange[i] = NextRange(j, s.rrange[i] + 1);
          u.rstep[i] = u.rrange[i] == kRanges ? R_CLOSE : R_READ;
          if (u.rrange[i] == kRanges) u.rrange[i] = 0;
          Out(u, "reader: reads a range", i, v);
        });
        break;
      case R_CLOSE:
        Memory::store(t, n, cell, 0);
        t.robject[i] = 0;
        t.rstep[i] = R_CLOSE_FLUSH;
        Out(t, "reader: clears its cell", i);
        break;
      case R_CLOSE_FLUSH:
        if (!Memory::flush(t, n, cell)) break;
        t.rstep[i] = R_IDLE;
        Out(t, "reader: flush cleared cell", i);
        break;
    }
  }

  void Tick() {
    if (!kPosted) return;
    S t = s;
    bool any = false;
    auto step = [&](uint8_t& wait) {
      any |= wait != 0;
      wait -= wait != 0;
    };
    for (int k = 1; k <= kGrants; k++) step(t.gwait[k]), step(t.dwait[k]);
    for (int j = 1; j <= kObjects; j++) step(t.owait[j]);
    for (int w = 0; w < kSessions; w++) step(t.wait[w]);
    if (any && Memory::tick(t, D)) Out(t, "tick");
  }
  void All() {
    Memory::noise(*this, s);
    for (int k = 1; k <= kGrants; k++)
      if (sc.grant[k].ranges) HomeGrant(k), Undertaker(k);
    for (int j = 1; j <= kObjects; j++)
      if (sc.object[j].gen) HomeObject(j);
    Restart();
    for (int w = 0; w < kSessions; w++) Session(w);
    for (int i = 0; i < readers; i++) Reader(i);
    Tick();
  }
};

int main(int argc, char** argv) {
  Args a(argc, argv);
  D = a.num("D", 1);
  int settled = kPosted ? D + 1 : 0;
  auto wait = [&](const char* key, int normal) {
    return kPosted ? a.num(key, normal) : 0;
  };
  settle_data = wait("s_data", settled);
  settle_free = wait("s_free", settled);
  settle_own = wait("s_own", settled);
  settle_gfree = wait("s_gfree", settled);
  settle_rec = wait("s_rec", settled);
  grace = wait("grace", 2 * D + 1);
  readers = a.num("readers", 1);
  session_node[0] = a.num("w1", 1);
  session_node[1] = a.num("w2", 0);
  reader_node = a.num("r", 1);
  crash = a.has("crash");
  hcrash = a.has("hcrash");
#define BUG(x) b_##x = a.has("bug=" #x)
  BUG(noshare);
  BUG(freecount);
  BUG(norecflush);
  BUG(retfrees);
  BUG(forget);
  BUG(deadnoflush);
  BUG(retnoflush);
  BUG(bystate);
  BUG(noreqid);
  BUG(early);
  BUG(dropearly);
  BUG(orphan);
  BUG(anygrant);
  bool known = false;
  for (const Scenario& each : kScenarios)
    if (a.has(each.name)) sc = each, known = true;
  if (!known) return fprintf(stderr, "name a scenario: two over slice tail\n"), 2;
  S s;
  Memory::init(s);
  memset(s.mask, 0, sizeof s.mask);
  for (int r = 0; r < kRanges; r++) s.mask[reader_node][DATA + r] = 1;
  s.restarts = a.num("restarts", 0);
  for (int i = 0; i < readers; i++) s.opens[i] = a.num("opens", 1);
  MC<S> mc;
  mc.quiet = a.has("quiet");
  mc.limit = a.num("limit", 40000000);
  auto all_free = [](const S& t) {
    for (int r = 0; r < kRanges; r++)
      if (!RangeFree(t, r)) return false;
    return true;
  };
  return mc.run(
      s, [](MC<S>& m, const S& st) { Model{m, st}.All(); }, all_free, !a.has("nolive"));
}
