// Model L: leases that a daemon writes for a session which may only read
// (docs/protocol.md L12, O1, O2, O6, D1, D2).
//
// Home 0 writes, seals, retires and frees one object again and again. Node 1 has a
// session with read-only maps: it asks its daemon for a lease; the daemon writes a cell,
// flushes, fences, answers; then the session itself reads the slot again (O2). It asks
// for the end of a lease the same way. The daemon may be killed at any step, a connection
// may break, the session may die: a new daemon knows of cells only what is in memory, and
// a session that comes back names those that it was told of, as it does with grants; all
// others are cleared, its unanswered request is repeated. Two cells, one session.
//
// Checked: S1 (who holds a lease reads the sealed bytes), S4 (a way to "all gens are over
// and no cell is written").
// Compile: -DPOST=0 (a fence means the write has arrived) | -DPOST=2 (it has left the
// node, arrives within D).
#include "mc.hpp"
#ifndef POST
#  define POST 0
#endif
constexpr int kNodes = 2, kPosted = POST, kCells = 2;
enum Line { DATA, SLOT, CELL, LINES = CELL + kCells };

enum SlotState { SEALED, RETIRED, FREE };
static int SlotValue(int gen, SlotState state) { return 1 + 3 * (gen - 1) + state; }
static int SlotGen(int v) { return v ? (v - 1) / 3 + 1 : 0; }
static SlotState StateOf(int v) { return v ? SlotState((v - 1) % 3) : FREE; }

enum HomeStep {
  H_WRITE,
  H_DATA,
  H_SEAL,
  H_SEAL_FLUSH,
  H_RETIRE,
  H_RETIRE_FLUSH,
  H_SCAN,
  H_FREE = H_SCAN + kCells,
  H_FREE_FLUSH,
  H_FREE_SETTLE,
  H_DONE
};
enum DaemonStep { D_IDLE, D_FLUSH, D_CLEAR_FLUSH, D_DEAD_FLUSH };
enum Request { NOTHING, LEASE, CLOSE };
enum SessionStep { R_IDLE, R_LEASE, R_CHECK, R_INVAL, R_READ, R_CLOSE, R_DEAD, R_OVER };
#pragma pack(push, 1)
struct S : Mem<kNodes, LINES, kPosted> {
  uint8_t gen, hstep, hwait;
  // The daemon of node 1: the request that it works on, its cells (request number of
  // each, 0 none), and whether its own look at the slot was good.
  uint8_t dstep, dcell, owner[kCells], dgood, drequest;
  // Between them: a request and an answer, and a request on a connection that broke.
  uint8_t sent, number, answered, answer, late, late_number, late_cell, attached;
  // The session: gen and cell + 1 of its lease.
  uint8_t rstep, rgen, rcell, opens, deaths, restarts, cuts;
  void arrived(int, int, int, int) {}
};
#pragma pack(pop)
using Memory = Ops<S, kNodes, LINES, kPosted>;

static int G = 2, D = 1, settle, grace;
static bool daemon_checks;
static bool b_norecheck, b_trust, b_noflush, b_restartclears, b_noname, b_lateclose,
    b_latelease, b_sock, b_nodeath, b_leasecache, b_nosweep;

struct Model {
  MC<S>& mc;
  const S& s;
  void Out(S t, const char* label, int a = 0, int b = 0, bool noise = false) {
    for (int n = 0; n < kNodes; n++)
      for (int l = 0; l < LINES; l++)
        if (n != 1 || l != DATA) t.mask[n][l] = 0;
    mc.emit(t, label, a, b, noise);
  }
  void emit(const S& t, const char* l, int a, int b, bool noise = false) {
    Out(t, l, a, b, noise);
  }

  void Home() {
    S t = s;
    auto flush = [&](int line, int next, int wait, const char* what) {
      if (!Memory::flush(t, 0, line)) return;
      t.hstep = next, t.hwait = wait;
      Out(t, what, s.gen);
    };
    auto slot = [&](SlotState state, int next, const char* what) {
      Memory::store(t, 0, SLOT, SlotValue(s.gen, state));
      t.hstep = next;
      Out(t, what, s.gen);
    };
    if (s.hwait) return;
    switch (s.hstep) {
      case H_WRITE:
        Memory::store(t, 0, DATA, s.gen);
        t.hstep = H_DATA;
        return Out(t, "home: writes the range", s.gen);
      case H_DATA:
        return flush(DATA, H_SEAL, settle, "home: flush data");
      case H_SEAL:
        return slot(SEALED, H_SEAL_FLUSH, "home: slot := Sealed");
      case H_SEAL_FLUSH:
        return flush(SLOT, H_RETIRE, 0, "home: flush slot (Sealed)");
      case H_RETIRE:
        return slot(RETIRED, H_RETIRE_FLUSH, "home: slot := Retired");
      case H_RETIRE_FLUSH:
        return flush(SLOT, H_SCAN, grace, "home: flush slot (Retired)");
      case H_FREE:
        return slot(FREE, H_FREE_FLUSH, "home: slot := Free");
      case H_FREE_FLUSH:
        return flush(SLOT, H_FREE_SETTLE, settle, "home: flush slot (Free)");
      case H_FREE_SETTLE:
        t.hstep = s.gen == G ? H_DONE : H_WRITE;
        if (s.gen < G) t.gen++;
        return Out(t, "home: the range is free");
      case H_DONE:
        return;
    }
    Memory::il(s, 0, CELL + s.hstep - H_SCAN, [&](S& u, int cell) {
      u.hstep = cell == s.gen ? H_SCAN : s.hstep + 1;
      Out(u, cell == s.gen ? "home: finds a cell" : "home: scans a cell",
          s.hstep - H_SCAN, cell);
    });
  }

  // --- the daemon of node 1 -----------------------------------------------------------
  int FreeCell() {
    for (int i = 0; i < kCells; i++)
      if (!s.owner[i]) return i;
    return -1;
  }
  void Clear(S t, int cell, DaemonStep next, const char* what) {
    Memory::store(t, 1, CELL + cell, 0);
    t.owner[cell] = 0, t.dstep = next, t.dcell = cell;
    Out(t, what, cell);
  }
  void Answer(S& t) {
    t.dstep = D_IDLE, t.dcell = 0;
    // An answer that its connection lost is not told again: the cell went back (Attach).
    if (t.sent && t.number == t.drequest && (t.attached || b_leasecache)) t.answered = 1;
    if (!t.answered) t.answer = t.dgood = 0;
    t.drequest = 0;
  }
  void Daemon() {
    S t = s;
    switch (s.dstep) {
      case D_IDLE: {
        for (int i = 0; i < kCells && !b_nosweep; i++) {  // O6
          S u = s;
          if (s.dirty[1][CELL + i] != NONE && Memory::flush(u, 1, CELL + i))
            Out(u, "daemon: sweep", i);
        }
        if (s.rstep == R_DEAD && !b_nodeath) {  // D2
          for (int i = 0; i < kCells; i++)
            if (s.owner[i])
              return Clear(t, i, D_DEAD_FLUSH,
                           "daemon: clears a cell of the dead session");
          t.rstep = R_OVER;
          if (!b_latelease) t.late = t.late_number = t.late_cell = 0;
          Out(t, "daemon: the session has ended");
          t = s;
        }
        if (b_sock && !s.attached && s.rstep < R_DEAD)
          for (int i = 0; i < kCells; i++)
            if (s.owner[i])
              Clear(s, i, D_DEAD_FLUSH, "daemon: takes the closed socket for a death");
        if (s.late == CLOSE && s.owner[s.late_cell]) {  // by place, whoever has it now
          S u = s;
          u.late = u.late_number = u.late_cell = 0;
          Clear(u, s.late_cell, D_DEAD_FLUSH,
                "daemon: handles a request of a broken connection");
        }
        if (s.late == LEASE && FreeCell() >= 0) {
          S u = s;
          int i = FreeCell();
          Memory::store(u, 1, CELL + i, u.rgen ? u.rgen : 1);
          u.owner[i] = s.late_number, u.late = u.late_number = 0, u.dstep = D_DEAD_FLUSH,
          u.dcell = i;
          Out(u, "daemon: handles a lease of a session that is over", i);
        }
        if (!s.attached || !s.sent || s.answered || s.drequest) return;
        t.drequest = s.number;
        if (s.sent == CLOSE) {
          if (s.owner[s.rcell - 1])
            return Clear(t, s.rcell - 1, D_CLEAR_FLUSH, "daemon: ends the lease");
          Answer(t);
          return Out(t, "daemon: that lease is over");
        }
        int i = FreeCell();
        if (i < 0) return;
        Memory::il(t, 1, SLOT,
                   [&](S& u, int v) {  // what it knows before: nothing, but for a bug
                     u.dgood = b_trust && v == SlotValue(s.rgen, SEALED);
                     Memory::store(u, 1, CELL + i, s.rgen);
                     u.owner[i] = s.number, u.dcell = i, u.dstep = D_FLUSH;
                     Out(u, "daemon: cell := object", i, s.rgen);
                   });
        return;
      }
      case D_FLUSH:
        if (!b_noflush && !Memory::flush(t, 1, CELL + s.dcell)) return;
        if (!daemon_checks) {
          t.answer = s.dcell + 1;
          Answer(t);
          return Out(t, "daemon: flush cell, answers", s.dcell);
        }
        Memory::il(t, 1, SLOT, [&](S& u, int v) {
          u.dgood = v == SlotValue(s.rgen, SEALED);
          u.answer = s.dcell + 1;
          Answer(u);
          Out(u, "daemon: flush cell, reads the slot, answers", s.dcell, v);
        });
        return;
      case D_CLEAR_FLUSH:
      case D_DEAD_FLUSH:
        if (!Memory::flush(t, 1, CELL + s.dcell)) return;
        if (s.dstep == D_CLEAR_FLUSH) Answer(t);
        t.dstep = D_IDLE, t.dcell = 0;
        return Out(t, "daemon: flush cleared cell");
    }
  }
  // The next daemon takes a written cell for in use, of a request that it does not know.
  void RestartDaemon() {
    S t = s;
    t.restarts--;
    t.dstep = t.dcell = t.dgood = t.drequest = t.answered = t.answer = t.attached = 0;
    t.late = t.late_number = t.late_cell = 0;
    for (int i = 0; i < kCells; i++) {
      int cell = s.dirty[1][CELL + i] != NONE ? s.dirty[1][CELL + i]
                                              : Memory::cur(s, 1, CELL + i);
      t.owner[i] = cell ? 0xff : 0;
      if (!cell || !b_restartclears) continue;
      Memory::store(t, 1, CELL + i, 0);
      if (!Memory::flush(t, 1, CELL + i)) return;
      t.owner[i] = 0;
    }
    Out(t, "daemon is killed, the next one starts", 0, 0, true);
  }

  // --- the session --------------------------------------------------------------------
  void Send(S& t, Request request) { t.sent = request, t.number = s.number % 200 + 1; }
  void Session() {
    S t = s;
    if (s.rstep >= R_DEAD) return;
    if (!s.attached) return Attach();
    switch (s.rstep) {
      case R_IDLE:
        if (!s.opens) break;
        Memory::il(s, 1, SLOT, [&](S& u, int v) {
          if (!v || StateOf(v) != SEALED) return;
          u.opens--, u.rgen = SlotGen(v), u.rstep = R_LEASE;
          Send(u, LEASE);
          Out(u, "session: sees Sealed, asks for a lease", u.rgen);
        });
        break;
      case R_LEASE:
        if (!s.answered) break;
        t.rcell = s.answer;
        if (b_norecheck)
          t.rstep = R_INVAL;
        else if (daemon_checks || b_trust)
          t.rstep = s.dgood ? R_INVAL : R_CLOSE;
        else
          t.rstep = R_CHECK;
        t.sent = t.answered = t.answer = t.dgood = 0;
        if (t.rstep == R_CLOSE) Send(t, CLOSE);
        Out(t, "session: is told its cell", t.rcell - 1);
        break;
      case R_CHECK:
        Memory::il(s, 1, SLOT, [&](S& u, int v) {
          bool ok = v == SlotValue(s.rgen, SEALED);
          u.rstep = ok ? R_INVAL : R_CLOSE;
          if (!ok) Send(u, CLOSE);
          Out(u,
              ok ? "session: slot still Sealed, lease holds" : "session: slot moved on",
              v);
        });
        break;
      case R_INVAL:
        if (!Memory::flush(t, 1, DATA)) break;
        t.rstep = R_READ;
        Out(t, "session: invalidates data");
        break;
      case R_READ:
        Memory::ld(s, 1, DATA, [&](S& u, int v) {
          if (v != s.rgen)
            viol("S1: a session with a lease read bytes that are not the sealed content");
          Out(u, "session: reads", v);
        });
        t.rstep = R_CLOSE;
        Send(t, CLOSE);
        Out(t, "session: closes");
        break;
      case R_CLOSE:
        if (!s.answered) break;
        t.sent = t.answered = t.answer = t.rgen = t.rcell = t.rstep = 0;
        Out(t, "session: is told that the lease is over");
        break;
    }
    if (s.cuts) {
      t = s;
      t.cuts--, t.attached = t.answered = t.answer = 0;
      if (s.sent && !s.answered && !s.drequest && b_lateclose)
        t.late = s.sent, t.late_number = s.number,
        t.late_cell = s.rcell ? s.rcell - 1 : 0;
      if (t.late == LEASE) t.late = t.late_number = 0;
      Out(t, "connection breaks", 0, 0, true);
    }
    if (s.deaths) {
      t = s;
      t.deaths--, t.rstep = R_DEAD;
      if (s.sent == LEASE && !s.answered && !s.drequest && b_latelease)
        t.late = LEASE, t.late_number = s.number;
      t.sent = t.answered = t.answer = t.rcell = t.dgood = 0;
      Out(t, "session dies", 0, 0, true);
    }
  }
  // As with grants: what the session was not told of is not used by it, and goes back.
  // Then the request without an answer is sent again.
  void Attach() {
    if (s.dstep != D_IDLE) return;
    for (int i = 0; i < kCells && !b_noname; i++)
      if (s.owner[i] && s.rcell != i + 1) {
        S t = s;
        return Clear(t, i, D_DEAD_FLUSH,
                     "daemon: clears a cell that its session does not name");
      }
    S t = s;
    t.attached = 1, t.drequest = 0;
    if (!b_lateclose)
      t.late = t.late_number = t.late_cell = 0;  // the old connection is closed
    Out(t, "session: goes on, names its cell", s.rcell ? s.rcell - 1 : 9);
  }
  void Tick() {
    S t = s;
    if (!s.hwait || !Memory::tick(t, D)) return;
    t.hwait--;
    Out(t, "tick");
  }
  void All() {
    Memory::noise(*this, s);
    Home();
    Daemon();
    Session();
    if (s.restarts) RestartDaemon();
    if (kPosted) Tick();
  }
};

int main(int c, char** v) {
  Args a(c, v);
  G = a.num("G", 2), D = a.num("D", 1);
  settle = kPosted ? D + 1 : 0, grace = kPosted ? a.num("grace", 2 * D + 1) : 0;
  daemon_checks = a.has("daemonchecks");
#define BUG(x) b_##x = a.has("bug=" #x)
  BUG(norecheck);
  BUG(trust);
  BUG(noflush);
  BUG(restartclears);
  BUG(noname);
  BUG(lateclose);
  BUG(latelease);
  BUG(sock);
  BUG(nodeath);
  BUG(leasecache);
  BUG(nosweep);
  S s;
  Memory::init(s);
  s.gen = 1, s.attached = 1, s.opens = a.num("opens", 2), s.deaths = a.num("deaths", 0);
  s.restarts = a.num("restarts", 0), s.cuts = a.num("cuts", 0);
  MC<S> mc;
  mc.quiet = a.has("quiet");
  mc.limit = a.num("limit", 60000000);
  return mc.run(
      s, [](MC<S>& m, const S& st) { Model{m, st}.All(); },
      [](const S& st) {
        for (int i = 0; i < kCells; i++)
          if (st.owner[i] || st.M[CELL + i]) return false;
        return st.hstep == H_DONE;
      },
      !a.has("nolive"));
}
