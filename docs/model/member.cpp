// Model G: which nodes a home honours (docs/protocol.md F1 to F10;
// src/daemon/membership.cc, src/region/admit_line.h, WriteAndCheck in
// src/client/lease_table.cc).
//
// Home 0 has one range, one object slot and the admit line of node 1: {incarnation that
// is honoured, highest withdrawn, highest certified off}. Node 1 has a reader, a daemon
// that sees itself withdrawn and begins the next incarnation, and, with w1=1, a writer of
// the home's range (F3; the product grants no range to other nodes yet). Silence is free:
// a suspicion may come at any time, whoever is paused takes no steps. Node 1 crashes and
// boots, its daemon restarts, or ends and comes back; an operator certifies it off. Its
// incarnation line is Busy while it changes, for ever if it dies there. The home is one
// thread: while it settles it does nothing else. Policy strict: cells of a withdrawn node
// count, those of a node that is certified off do not.
//
// Checked: S1 (a leased reader sees only the sealed bytes), S2 (no line of an earlier
// owner arrives after the range moved on), S4 (a way to "the range went through all
// hands"). Compile: -DPOST=0 (a fence means the write has arrived) | -DPOST=2 (it has
// left the node, arrives within D).
#include "mc.hpp"
#ifndef POST
#  define POST 0
#endif
constexpr int kNodes = 2, kPosted = POST, kGens = 3;
enum Line { DATA, SLOT, CELL, ADMIT, INC, LINES };

// --- values of lines ------------------------------------------------------------------
enum SlotState { OWNED, SEALED, RETIRED, FREE };
static int SlotValue(int gen, SlotState state) { return 1 + 4 * (gen - 1) + state; }
static int SlotGen(int v) { return v ? (v - 1) / 4 + 1 : 0; }
static SlotState StateOf(int v) { return v ? SlotState((v - 1) % 4) : FREE; }
static int Scratch(int gen) { return 2 * gen - 1; }
static int Final(int gen) { return 2 * gen; }
constexpr int kLives = 4;  // incarnations of node 1, at most
constexpr int kBusy = 7;   // of the incarnation line
struct Admit {
  int inc, withdrawn, off;
  explicit Admit(int v) : inc(v % kN), withdrawn(v / kN % kN), off(v / kN / kN) {}
  int value() const { return inc + kN * (withdrawn + kN * off); }
  static constexpr int kN = kLives + 1;
  int refused() const { return withdrawn > off ? withdrawn : off; }
  bool is_off() const { return off && !inc && withdrawn <= off; }
};

// --- state ----------------------------------------------------------------------------
enum HomeThen { NOTHING, GRANT, GRACE, POOL, WITHDRAWN };  // when the settle is over
enum NodeStep {
  RUN,
  REJOIN,
  END,
  END_FLUSH,
  FLUSH_DATA,
  SETTLED,
  NEXT,
  NEXT_BUSY,
  NEXT_FLUSH,
  NEXT_SETTLED,
  DOWN,
  OFF,
  BOOT_CELL
};
enum WriterStep {
  W_WAIT,
  W_INVAL,
  W_SCRATCH,
  W_FINAL,
  W_FLUSH,
  W_SETTLE,
  W_DONE,
  W_GONE
};
enum ReaderStep {
  R_IDLE,
  R_CELL,
  R_FLUSH,
  R_SLOT,
  R_HONOUR,
  R_INVAL,
  R_READ,
  R_CLEAR,
  R_CLEAR_FLUSH,
  R_GONE
};
#pragma pack(push, 1)
struct S : Mem<kNodes, LINES, kPosted> {
  // The home. `owner_inc` is part of the slot's line; the rest is lost at a restart.
  uint8_t gen, state, owner_inc;
  uint8_t busy, line, then, adopt, wait, grace, scan, admitted, forget, forget_wait,
      granted;
  uint8_t asked;  // the operator asked for the incarnation before this number, once
  uint8_t restarts, suspicions;
  // Node 1: its daemon, and what happens to it.
  // `life`: its own admit line, which has each incarnation before the line itself.
  uint8_t step, honoured, node_wait, crashes, node_restarts, downs, boot, life;
  // Sessions. A gen has one writer each.
  uint8_t wstep[kGens + 1], wwait[kGens + 1], seal;
  uint8_t rstep, rgen, rok, opens;
  void arrived(int line, int old, int value, int node);
};
#pragma pack(pop)
using Memory = Ops<S, kNodes, LINES, kPosted>;

static int G = 2, D = 1, settle, grace_ticks, s_off, s_boot, s_rejoin, writer[kGens + 1];
static bool downs, lie, operator_only, hcrash, slotfirst;
static bool b_ignorewd, b_noquar, b_noflush, b_nokill, b_readmit, b_nohonour,
    b_offforever, b_noend, b_askonce, b_offunseen, b_noresettle, b_offbusy, b_readoff;

static int Own(const S& s, int node, int line) {  // what the node itself sees of its line
  return s.dirty[node][line] != NONE ? s.dirty[node][line] : Memory::cur(s, node, line);
}
static bool NodeIsOff(const S& s) { return s.step == OFF; }
static bool MayOpen(const S& s) {
  return s.step != OFF && s.step != BOOT_CELL && !s.boot;
}

void S::arrived(int l, int old, int value, int) {
  if (l != DATA || value == old) return;
  if ((value + 1) / 2 != gen)
    viol("S2: a line of an earlier owner reaches memory after the range moved on");
  else if (state != OWNED)
    viol("S2: a write reaches memory after the seal or the end of its grant");
}

struct Model {
  MC<S>& mc;
  const S& s;

  // Only the reader loads without an invalidate, and only data.
  void Out(S t, const char* label, int a = 0, int b = 0, bool noise = false) {
    for (int n = 0; n < kNodes; n++)
      for (int l = 0; l < LINES; l++)
        if (n != 1 || l != DATA) t.mask[n][l] = 0;
    mc.emit(t, label, a, b, noise);
  }
  void emit(const S& t, const char* l, int a, int b, bool noise = false) {
    Out(t, l, a, b, noise);
  }

  // --- the home -----------------------------------------------------------------------
  void Store(S& t, int line, int value, HomeThen then) {
    Memory::store(t, 0, line, value);
    t.busy = 1, t.line = line, t.then = then;
  }
  void Move(S& t, SlotState state, HomeThen then) {
    t.state = state;
    Store(t, SLOT, SlotValue(t.gen, state), then);
  }
  void Home() {
    S t = s;
    if (s.busy == 1) {
      if (!Memory::flush(t, 0, s.line)) return;
      t.busy = 2, t.wait = settle;
      return Out(t, "home: flush", s.line);
    }
    if (s.busy == 2) {
      if (s.wait) return;
      t.busy = t.line = t.then = 0;
      if (s.then == GRANT) t.granted = s.gen;
      if (s.then == GRACE) t.grace = grace_ticks;
      if (s.then == WITHDRAWN) {
        Admit admit(Own(s, 0, ADMIT));
        admit.inc = 0;
        t.admitted = 0;
        Store(t, ADMIT, admit.value(), NOTHING);
        return Out(t, "home: admit line := no incarnation");
      }
      if (s.adopt) t.busy = 1, t.line = ADMIT, t.adopt = 0;
      return Out(t, "home: settled");
    }
    if (s.scan) return Scan();
    Object();
    Membership();
  }
  void Object() {
    S t = s;
    bool remote = writer[s.gen];
    switch (s.state) {
      case FREE:
        if (s.gen == G || (writer[s.gen + 1] && !s.admitted)) break;
        t.gen++;
        t.owner_inc = writer[t.gen] ? s.admitted : 0;
        Move(t, OWNED, GRANT);
        Out(t, "home: grants the range", t.gen, t.owner_inc);
        break;
      case OWNED:
        if (s.seal == s.gen && (!remote || s.admitted == s.owner_inc)) {
          Move(t, SEALED, NOTHING);
          Out(t, "home: seals", s.gen);
        }
        if (!remote) {
          if (s.wstep[s.gen] != W_GONE) break;  // R2: its caches are gone
          Move(t, FREE, POOL);
          Out(t, "home: frees the grant of its own old life", s.gen);
          break;
        }
        // F3: quarantine until its node is back as the next incarnation, or is off.
        Memory::il(s, 0, INC, [&](S& u, int inc) {
          bool is_over = (inc != kBusy && inc > s.owner_inc) ||
                         Admit(Own(u, 0, ADMIT)).off >= s.owner_inc;
          if (!is_over && !(b_noquar && !s.admitted)) return;
          Move(u, FREE, POOL);
          Out(u, "home: the quarantine is over", inc);
        });
        break;
      case SEALED:
        Move(t, RETIRED, GRACE);
        Out(t, "home: retires", s.gen);
        break;
      case RETIRED:
        if (s.grace) break;
        Memory::il(s, 0, INC, [&](S& u, int inc) {
          Admit own(Own(u, 0, ADMIT));
          bool ignored = own.is_off() || (own.off && b_offforever) ||
                         (own.off && b_offbusy && (inc == kBusy || inc <= own.off));
          u.scan = ignored || (b_ignorewd && !s.admitted) ? 2 : 1;
          Out(u, u.scan == 2 ? "home: scan leaves node 1 out" : "home: scan of node 1",
              inc);
        });
        break;
    }
  }
  void Scan() {
    if (s.scan == 2) {
      S t = s;
      t.scan = 0;
      Move(t, FREE, POOL);
      return Out(t, "home: frees", s.gen);
    }
    Memory::il(s, 0, CELL, [&](S& u, int cell) {
      u.scan = 0;
      if (cell != s.gen) Move(u, FREE, POOL);
      Out(u, cell != s.gen ? "home: no cell, frees" : "home: finds a cell", cell);
    });
  }
  void Membership() {
    Admit own(Own(s, 0, ADMIT));
    if (s.admitted && (s.suspicions || NodeIsOff(s) || s.step == DOWN)) {  // F2
      S t = s;
      if (t.suspicions) t.suspicions--;
      Admit admit = own;
      admit.withdrawn = s.admitted;
      Store(t, ADMIT, admit.value(), WITHDRAWN);
      Out(t, "home: withdraws", s.admitted, 0, !NodeIsOff(s) && s.step != DOWN);
    }
    Memory::il(s, 0, INC, [&](S& u, int inc) {
      if (inc == kBusy) return;
      if (inc == s.admitted || (inc <= own.refused() && !(b_readmit && s.suspicions)))
        return;
      if (b_readmit && inc <= own.refused()) u.suspicions--;
      Admit admit = own;
      u.admitted = admit.inc = inc;
      Store(u, ADMIT, admit.value(), NOTHING);
      Out(u, "home: admits", inc);
    });
    Operator(own);
  }
  // True: it is powered off; or its daemon has ended and nobody there reads or writes.
  bool IsTrulyOff() {
    bool idle = s.rstep == R_IDLE || s.rstep == R_GONE;
    for (int g = 1; g <= G; g++) idle &= !writer[g];
    return NodeIsOff(s) || (downs && s.step == DOWN && idle);
  }
  void Operator(const Admit& own) {
    if (s.forget) {
      if (s.forget_wait) return;
      S t = s;
      t.forget = 0;
      if (s.admitted > s.forget) return Out(t, "home: it came back meanwhile", s.forget);
      Admit admit = own;
      admit.off = s.forget;
      Store(t, ADMIT, admit.value(), NOTHING);
      return Out(t, "home: counts as off", s.forget);
    }
    if (s.admitted || !(IsTrulyOff() || lie)) return;
    Memory::il(s, 0, INC, [&](S& u, int inc) {
      if (inc == kBusy) {  // beyond what it can have had, so that it sees itself off
        inc = own.refused() > s.life ? own.refused() : s.life + 1;
        if (b_readoff || inc > kLives) return;
      }
      if (inc <= own.off || (b_askonce && inc < s.asked)) return;
      u.forget = inc, u.forget_wait = s_off, u.asked = b_askonce ? inc + 1 : 0;
      Admit admit = own;  // refused from now on, also if it was never seen
      if (inc > admit.withdrawn) admit.withdrawn = inc;
      if (!b_offunseen && admit.value() != own.value())
        Store(u, ADMIT, admit.value(), NOTHING);
      Out(u, "operator: node 1 is off", inc, 0, !operator_only);
    });
  }
  // R1: what is in memory is all that the next daemon has.
  void RestartHome(S t, const char* why) {
    t.restarts--;
    t.busy = t.line = t.then = t.wait = t.grace = t.scan = t.forget = t.forget_wait = 0;
    int slot = Own(t, 0, SLOT);
    if (slot)
      t.gen = SlotGen(slot), t.state = StateOf(slot);
    else
      t.gen = 0, t.state = FREE;
    if (t.state == OWNED) t.then = GRANT;
    if (t.state == RETIRED) t.then = GRACE;
    t.granted = 0;
    t.busy = 1, t.line = SLOT, t.adopt = !b_noresettle;  // all is settled again
    t.admitted = Admit(Own(t, 0, ADMIT)).inc;
    Out(t, why, slot, t.admitted, true);
  }

  // --- node 1: its daemon -------------------------------------------------------------
  void EndSessions(S& t, bool writers_only) {
    for (int g = 1; g <= G; g++)
      if (writer[g] && t.wstep[g] != W_DONE && (t.wstep[g] != W_WAIT || t.granted == g))
        t.wstep[g] = W_GONE, t.wwait[g] = 0;
    if (writers_only) return;
    if (t.rstep != R_GONE) t.rstep = R_GONE, t.rgen = t.rok = 0;
  }
  void Node() {
    S t = s;
    int inc = Own(s, 1, INC);
    switch (s.step) {
      case RUN:
        Memory::il(s, 1, ADMIT, [&](S& u, int v) {
          Admit admit(v);
          bool honoured = s.honoured || admit.inc == inc;
          bool withdrawn = admit.refused() >= inc || (honoured && admit.inc != inc);
          if (withdrawn && s.life < kLives)
            u.step = REJOIN;
          else if (honoured == s.honoured)
            return;
          u.honoured = honoured && !withdrawn;
          Out(u, withdrawn ? "node: sees itself withdrawn" : "node: is honoured", inc);
        });
        if (s.rstep == R_GONE && s.opens) {
          t.rstep = R_IDLE;
          Out(t, "node: a session starts");
        }
        break;
      case REJOIN:
        Memory::il(s, 1, ADMIT, [&](S& u, int v) {
          bool off = Admit(v).off >= inc && !b_noend;
          u.step = off ? END : FLUSH_DATA;
          Out(u, off ? "node: it was off" : "node: it was not off", inc);
        });
        break;
      case END:
        EndSessions(t, false);
        Memory::store(t, 1, CELL, 0);
        t.step = END_FLUSH;
        Out(t, "node: ends all sessions, clears their cells");
        break;
      case END_FLUSH:
        if (!Memory::flush(t, 1, CELL)) break;
        t.step = FLUSH_DATA;
        Out(t, "node: flush cells");
        break;
      case FLUSH_DATA:
        // Sessions that only read go on.
        if (!b_nokill) EndSessions(t, true);
        if (writer[1] || writer[2]) {
          if (!b_noflush && !Memory::flush(t, 1, DATA)) break;
          t.node_wait = s_rejoin;
        }
        t.step = SETTLED;
        Out(t, "node: ends its writers, flushes what they wrote");
        break;
      case SETTLED:
        if (s.node_wait) break;
        t.step = NEXT;
        Out(t, "node: settled");
        break;
      case NEXT:
        t.life = (inc == kBusy ? s.life : inc) + 1;
        Memory::store(t, 1, INC, kBusy);
        t.step = NEXT_BUSY;
        Out(t, "node: incarnation line Busy");
        break;
      case NEXT_BUSY:
        Memory::store(t, 1, INC, s.life);
        t.step = NEXT_FLUSH;
        Out(t, "node: next incarnation", s.life);
        break;
      case NEXT_FLUSH:
        if (!Memory::flush(t, 1, INC)) break;
        t.step = NEXT_SETTLED, t.node_wait = settle;
        Out(t, "node: flush incarnation");
        break;
      case NEXT_SETTLED:
        if (s.node_wait) break;
        t.step = s.boot ? BOOT_CELL : RUN, t.boot = t.honoured = 0;
        Out(t, "node: incarnation settled");
        break;
      case DOWN:
        t.step = RUN, t.honoured = 0;
        Out(t, "node: its daemon starts again, same boot");
        break;
      case OFF:
        if (s.node_wait || operator_only || s.life == kLives) break;
        t.boot = 1, t.step = NEXT;
        Out(t, "node: boots");
        break;
      case BOOT_CELL:
        if (s.dirty[1][CELL] == NONE && Memory::cur(s, 1, CELL))
          Memory::store(t, 1, CELL, 0);
        if (!Memory::flush(t, 1, CELL)) break;
        t.step = RUN;
        Out(t, "node: cells of the former life cleared");
        break;
    }
    if (s.node_restarts && s.step < NEXT && s.step != RUN) {
      t = s;
      t.node_restarts--, t.step = RUN, t.honoured = t.node_wait = 0;
      Out(t, "node: daemon killed, starts again, same boot", 0, 0, true);
    }
    if (s.downs && s.step == RUN) {
      t = s;
      t.downs--, t.step = DOWN;
      Out(t, "node: its daemon ends, its clients do not", 0, 0, true);
    }
    if (s.crashes && s.step != OFF && (s.life < kLives || operator_only)) {
      t = s;
      t.crashes--;
      for (int l = 0; l < LINES; l++)
        t.dirty[1][l] = NONE, t.mask[1][l] = Memory::bit(Memory::cur(t, 1, l));
      EndSessions(t, false);
      t.step = OFF, t.boot = t.honoured = 0, t.node_wait = s_boot;
      Out(t, "node: power goes off", inc, 0, true);
    }
  }

  // --- sessions -----------------------------------------------------------------------
  void Writer(int g) {
    int n = writer[g];
    S t = s;
    auto check = [&] {
      if (s.gen != g || s.state != OWNED)
        viol("S2: store into a range that belongs to another owner");
    };
    switch (s.wstep[g]) {
      case W_WAIT:
        if (s.granted != g) break;
        if (n && s.step == OFF) break;
        if (n && (s.step != RUN || s.owner_inc != Own(s, 1, INC))) break;
        t.wstep[g] = W_INVAL;
        Out(t, "writer: gets the grant", g);
        break;
      case W_INVAL:
        if (!Memory::flush(t, n, DATA)) break;
        t.wstep[g] = W_SCRATCH;
        Out(t, "writer: invalidates", g);
        break;
      case W_SCRATCH:
        check();
        Memory::store(t, n, DATA, Scratch(g));
        t.wstep[g] = W_FINAL;
        Out(t, "writer: store (scratch)", g);
        break;
      case W_FINAL:
        check();
        Memory::store(t, n, DATA, Final(g));
        t.wstep[g] = W_FLUSH;
        Out(t, "writer: store (final)", g);
        break;
      case W_FLUSH:
        if (!Memory::flush(t, n, DATA)) break;
        t.wstep[g] = W_SETTLE, t.wwait[g] = settle;
        Out(t, "writer: flush", g);
        break;
      case W_SETTLE:
        if (s.wwait[g]) break;
        t.wstep[g] = W_DONE, t.seal = g;
        Out(t, "writer: asks for the seal", g);
        break;
    }
  }
  void Reader() {
    S t = s;
    bool ok;
    switch (s.rstep) {
      case R_IDLE:
        if (!s.opens || !MayOpen(s)) break;
        Memory::il(s, 1, SLOT, [&](S& u, int v) {
          if (StateOf(v) != SEALED || !v) return;
          u.opens--, u.rgen = SlotGen(v), u.rstep = R_CELL;
          Out(u, "reader: sees Sealed", u.rgen);
        });
        break;
      case R_CELL:
        Memory::store(t, 1, CELL, s.rgen);
        t.rstep = R_FLUSH;
        Out(t, "reader: cell := object", s.rgen);
        break;
      case R_FLUSH:
        if (!Memory::flush(t, 1, CELL)) break;
        t.rstep = slotfirst ? R_SLOT : R_HONOUR;
        Out(t, "reader: flush cell");
        break;
      case R_SLOT:
        Memory::il(s, 1, SLOT, [&](S& u, int v) {
          u.rok = v == SlotValue(s.rgen, SEALED);
          ok = u.rok;
          if (slotfirst)
            u.rstep = R_HONOUR;
          else
            u.rstep = ok ? R_INVAL : R_CLEAR;
          Out(u, ok ? "reader: slot still Sealed" : "reader: slot moved on", v);
        });
        break;
      case R_HONOUR:  // polled for a while
        Memory::il(s, 1, ADMIT, [&](S& u, int v) {
          ok = b_nohonour || Admit(v).inc == Own(u, 1, INC);
          if (ok && slotfirst)
            u.rstep = s.rok ? R_INVAL : R_CLEAR;
          else
            u.rstep = ok ? R_SLOT : R_CLEAR;
          Out(u,
              ok ? "reader: the home honours this node"
                 : "reader: not honoured, gives up",
              Own(u, 1, INC));
        });
        break;
      case R_INVAL:
        if (!Memory::flush(t, 1, DATA)) break;
        t.rstep = R_READ, t.rok = 0;
        Out(t, "reader: lease holds, invalidates data", s.rgen);
        break;
      case R_READ:
        Memory::ld(s, 1, DATA, [&](S& u, int v) {
          if (v != Final(s.rgen))
            viol("S1: reader with a lease read bytes that are not the sealed content");
          Out(u, "reader: reads", v);
        });
        t.rstep = R_CLEAR;
        Out(t, "reader: closes");
        break;
      case R_CLEAR:
        Memory::store(t, 1, CELL, 0);
        t.rgen = t.rok = 0, t.rstep = R_CLEAR_FLUSH;
        Out(t, "reader: cell := 0");
        break;
      case R_CLEAR_FLUSH:
        if (!Memory::flush(t, 1, CELL)) break;
        t.rstep = R_IDLE;
        Out(t, "reader: flush cell");
        break;
    }
  }
  void Tick() {
    bool any = s.wait || s.grace || s.forget_wait || s.node_wait;
    for (int g = 1; g <= G; g++) any |= s.wwait[g] != 0;
    S t = s;
    if (!any || !Memory::tick(t, D)) return;
    auto down = [](uint8_t& x) {
      if (x) x--;
    };
    down(t.wait), down(t.grace), down(t.forget_wait), down(t.node_wait);
    for (int g = 1; g <= G; g++) down(t.wwait[g]);
    Out(t, "tick");
  }
  void All() {
    Memory::noise(*this, s);
    Home();
    Node();
    for (int g = 1; g <= G; g++) Writer(g);
    Reader();
    if (s.restarts) {
      RestartHome(s, "home: daemon restarts");
      if (hcrash) {
        S t = s;
        for (int l = 0; l < LINES; l++) t.dirty[0][l] = NONE;
        for (int g = 1; g <= G; g++)
          if (!writer[g] && t.wstep[g] != W_DONE && t.wstep[g] != W_WAIT)
            t.wstep[g] = W_GONE, t.wwait[g] = 0;
        RestartHome(t, "home: node reboots, memory kept");
      }
    }
    if (kPosted) Tick();
  }
};

int main(int c, char** v) {
  Args a(c, v);
  G = a.num("G", 2), D = a.num("D", 1);
  settle = kPosted ? D + 1 : 0;
  grace_ticks = kPosted ? a.num("grace", 2 * D + 1) : 0;
  s_off = kPosted ? a.num("s_off", settle) : 0;
  s_boot = kPosted ? a.num("s_boot", settle) : 0;
  s_rejoin = kPosted ? a.num("s_rejoin", settle) : 0;
  writer[1] = a.num("w1", 0), writer[2] = a.num("w2", 0), writer[3] = a.num("w3", 0);
  downs = a.num("downs", 0), lie = a.has("lie"), operator_only = a.has("operator");
  hcrash = a.has("hcrash"), slotfirst = a.has("slotfirst");
#define BUG(x) b_##x = a.has("bug=" #x)
  BUG(ignorewd);
  BUG(noquar);
  BUG(noflush);
  BUG(nokill);
  BUG(readmit);
  BUG(nohonour);
  BUG(offforever);
  BUG(noend);
  BUG(askonce);
  BUG(offunseen);
  BUG(noresettle);
  BUG(offbusy);
  BUG(readoff);
  S s;
  Memory::init(s);
  Memory::set0(s, INC, 1);
  s.life = 1;
  s.state = FREE;
  s.suspicions = a.num("suspicions", 1), s.restarts = a.num("restarts", 0);
  s.crashes = a.num("crashes", 0), s.node_restarts = a.num("noderestarts", 0);
  s.downs = a.num("downs", 0), s.opens = a.num("opens", 2);
  MC<S> mc;
  mc.quiet = a.has("quiet");
  mc.limit = a.num("limit", 60000000);
  return mc.run(
      s, [](MC<S>& m, const S& st) { Model{m, st}.All(); },
      [](const S& st) {
        bool nobody = st.gen < G && writer[st.gen + 1] && operator_only && st.step == OFF;
        return st.state == FREE && (st.gen == G || nobody);
      },
      !a.has("nolive"));
}
