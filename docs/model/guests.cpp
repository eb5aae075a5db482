// Model M: memory that sessions of another node hold at a home, and how it comes back
// (docs/protocol.md P1, D3, F3; decision 0012; src/daemon/remote_homes.cc,
// guest_server.cc, home_guests.cc).
//
// Node 0 is home H of one extent. Node 1, W, has two sessions, one after the other or both
// at once, that ask H for it by their daemon, write, return it, or end without a word.
// W's daemon says in a census which of its sessions up to the last one live, and of which
// grants all is settled; H names the extents of sessions that are over and frees those
// that were said to be settled. Nothing else frees them: W may be withdrawn and come back
// as its next incarnation while its sessions go on, crash and boot, lose its daemon; so
// may H. Messages are lost, repeated, and come late over a connection that was replaced.
//
// Checked: S2 (a write arrives only while its own grant stands), S4 (a way to "the extent
// is free and H has no guest").
// Compile: -DPOST=0 | -DPOST=2.
#include "mc.hpp"
#ifndef POST
#  define POST 0
#endif
constexpr int kNodes = 2, kPosted = POST, H = 0, W = 1, kSessions = 2, kLate = 2;
enum Line { DATA, GRANT, LINES };

// The grant line: its generation, free or owned; who owns it is in `session` and below.
static int GrantValue(int gen, bool owned) { return 1 + 2 * gen + owned; }
static int GenOf(int v) { return v ? (v - 1) / 2 : 0; }
static bool IsOwned(int v) { return v && (v - 1) % 2; }

enum HomeStep { H_IDLE, H_OWN_SETTLE, H_FREE, H_FREE_SETTLE };
enum Kind { NOTHING, ASK_GRANT, RETURN, CENSUS };
enum Stage { SENT = 1, ANSWERED };
enum Life { NEW, LIVE, DEAD, OVER };  // OVER: its daemon knows (D1)

#pragma pack(push, 1)
struct Message {
  uint8_t kind, stage, inc;
  uint8_t session, request, gen;      // gen: of a return; that a grant request knows
  uint8_t number, last, live, settled;  // of a census; masks by session, by generation
  uint8_t answer, answer_inc, guests;   // gen granted; gen not settled; refused: 0xff
};
struct S : Mem<kNodes, LINES, kPosted> {
  // H: the grant's owner; guests by their pages; what it was told last (not in memory).
  uint8_t hstep, hwait, session, request, pages, admitted, refused;
  uint8_t last_request[kSessions], known_last, known_live, known_number, again, from;
  uint8_t owned;  // generation whose writer may write; 0: the extent is in the pool
  // W and its daemon.
  uint8_t inc, last, life[kSessions], holds[kSessions], asks[kSessions], wants[kSessions],
      gone[kSessions];
  uint8_t swait[kSessions], unsure, settled, settling, dwait, may, used, due, number;
  Message ask, census, late[kLate];
  uint8_t hrestarts, drestarts, suspicions, crashes, lates;
  void arrived(int line, int, int value, int) {
    if (line == DATA && value != owned)
      viol("S2: a write reaches memory while its writer has no right to the range");
  }
};
#pragma pack(pop)
using Memory = Ops<S, kNodes, LINES, kPosted>;
constexpr uint8_t kRefused = 0xff;

static int G = 2, D = 1, settle, settle_free, asks;
static bool hcrash, merged, anyinc, asknumbers, sticky;
static bool b_rejoinfrees, b_bootfrees, b_freeover, b_nosettle, b_nowait, b_nolast,
    b_nogen, b_noreturngen, b_nonumber, b_norequestorder, b_anygrant, b_takeunknown,
    b_noretry, b_forget, b_notime;

struct Model {
  MC<S>& mc;
  const S& s;
  // Only the order of numbers counts.
  static void Rank(S& t) {
    uint8_t* n[] = {&t.known_number, &t.census.number, &t.ask.number,
                    &t.late[0].number, &t.late[1].number, &t.number};
    int value[6];
    for (int i = 0; i < 6; i++) value[i] = *n[i];
    for (int i = 0; i < 6; i++) {
      *n[i] = value[i] != 0;
      for (int j = 0; j < 6; j++) {
        bool counts = value[j] && value[j] < value[i];
        for (int k = 0; k < j; k++) counts &= value[k] != value[j];
        *n[i] += counts;
      }
    }
  }
  void Out(S t, const char* label, int a = 0, int b = 0, bool noise = false) {
    memset(t.mask, 0, sizeof t.mask);
    Rank(t);
    mc.emit(t, label, a, b, noise);
  }
  void emit(const S& t, const char* l, int a, int b, bool noise = false) {
    Out(t, l, a, b, noise);
  }
  static int OwnView(const S& t, int n, int line) {
    return t.dirty[n][line] != NONE ? t.dirty[n][line] : Memory::cur(t, n, line);
  }
  static bool IsOver(const Message& m, int k) {
    return (b_nolast || k < m.last) && !(m.live >> k & 1);
  }

  // --- home H -------------------------------------------------------------------------
  Message* Asker(S& t) { return s.from == 1 ? &t.ask : s.from == 2 ? &t.census : nullptr; }
  void Answer(S& t, int answer, int inc = 0) {
    Message* m = Asker(t);
    t.from = 0;
    if (m == nullptr || m->stage != SENT) return;  // to a connection that is gone
    m->stage = ANSWERED, m->answer = answer, m->answer_inc = inc;
    m->guests = t.pages != 0;
  }
  void Own(S& t, int k, const Message& m) {
    int gen = GenOf(OwnView(s, H, GRANT)) + 1;
    Memory::store(t, H, GRANT, GrantValue(gen, true));
    t.session = k, t.request = m.request, t.pages |= 1 << k;
    t.hstep = H_OWN_SETTLE, t.hwait = settle;
    Memory::flush(t, H, GRANT);
  }
  void OnCensus(S& t, const Message& m) {
    const int line = OwnView(s, H, GRANT);
    if (!b_nonumber && !merged && m.number < s.known_number)
      return Answer(t, kRefused), Out(t, "H: an older census", m.number);
    if (!merged || m.number > s.known_number) t.known_number = m.number;
    t.known_live = m.live, t.known_last = m.last;
    if (merged) {  // what was said once stays true
      t.known_last = m.last > s.known_last ? m.last : s.known_last;
      for (int k = 0; k < kSessions; k++)
        if (k < s.known_last && !(s.known_live >> k & 1)) t.known_live &= ~(1 << k);
    }
    int unsettled = 0;
    for (int k = 0; k < kSessions; k++) {
      const bool holds = IsOwned(line) && s.session == k;
      const bool has_page = s.pages >> k & 1;
      if (!IsOver(m, k) && (has_page || !holds)) continue;  // AdoptOwner: no page, over
      const int settled = b_nogen ? m.settled : m.settled >> GenOf(line) & 1;
      if (holds && !settled && !b_freeover) {
        unsettled = GenOf(line);
        continue;
      }
      t.pages &= ~(1 << k), t.last_request[k] = 0;
      if (holds) t.hstep = H_FREE;
    }
    if (t.hstep != H_IDLE) return Out(t, "H: census, ends a guest", m.live, m.settled);
    Answer(t, unsettled);
    Out(t, "H: census, names what is not settled", m.live, unsettled);
  }
  void OnGrant(S& t, const Message& m) {
    const int k = m.session, line = OwnView(s, H, GRANT);
    const bool mine = IsOwned(line) && s.session == k;
    const Message known{0, 0, 0, 0, 0, 0, 0, s.known_last, s.known_live, 0, 0, 0, 0};
    const bool over = s.known_number && IsOver(known, k);
    if (over && s.life[k] == LIVE) viol("D1: a session that lives is taken for over");
    if (over) return Answer(t, kRefused), Out(t, "H: that session has ended", k);
    if (m.request < s.last_request[k] && !b_norequestorder)
      return Answer(t, kRefused), Out(t, "H: an older request", k, m.request);
    t.last_request[k] = m.request;
    if (mine && s.request == m.request) {
      Answer(t, GenOf(line), m.inc);
      return Out(t, "H: tells again what was granted", GenOf(line));
    }
    if (mine && (s.request < m.request || b_norequestorder) &&
        (m.gen != GenOf(line) || b_takeunknown)) {
      t.hstep = H_FREE, t.again = 1;
      return Out(t, "H: takes back what its session does not know", GenOf(line));
    }
    if (IsOwned(line) || GenOf(line) == G) {
      t.pages |= 1 << k;
      return Answer(t, kRefused), Out(t, "H: has no memory", k);
    }
    Own(t, k, m);
    Out(t, "H: grant line := Owned", k, GenOf(line) + 1);
  }
  void OnReturn(S& t, const Message& m) {
    const int line = OwnView(s, H, GRANT);
    const bool same = (s.session == m.session || b_noreturngen) && IsOwned(line) &&
                      (GenOf(line) == m.gen || b_noreturngen);
    t.hstep = H_FREE;
    if (same) return Out(t, "H: the extent is returned", m.gen);
    t.hstep = H_IDLE;
    Answer(t, 0);
    Out(t, "H: that return was done", m.gen);
  }
  // `asknumbers`: requests and censuses are numbered together.
  bool IsLate(const Message& m) const {
    return asknumbers && m.kind != CENSUS && m.number < s.known_number;
  }
  void Handle(const Message& m, int from) {
    if (m.kind == NOTHING || (from && m.stage != SENT)) return;
    // One connection keeps the order.
    const Message& other = from == 1 ? s.census : s.ask;
    if (from && other.kind && other.stage == SENT && other.number < m.number) return;
    S t = s;
    t.from = from;
    if ((m.inc != s.admitted && !(anyinc && s.admitted)) || IsLate(m)) {
      Model{mc, t}.Refuse(t);
      return;
    }
    Model u{mc, t};
    if (m.kind == CENSUS) return u.OnCensus(t, m);
    m.kind == RETURN ? u.OnReturn(t, m) : u.OnGrant(t, m);
  }
  void Refuse(S t) {
    Answer(t, kRefused);
    Out(t, "H: does not honour that incarnation, or is told late");
  }
  void Home() {
    S t = s;
    if (s.hwait) return;
    switch (s.hstep) {
      case H_IDLE:
        if (b_rejoinfrees && s.again == 2) {
          t.again = 0;
          if (IsOwned(OwnView(s, H, GRANT))) t.hstep = H_FREE;
          return Out(t, "H: frees what the node held");
        }
        Handle(s.ask, 1);
        Handle(s.census, 2);
        for (const Message& late : s.late) Handle(late, 0);
        if (s.admitted == 0 && s.inc > s.refused) {
          t.admitted = s.inc;
          if (b_rejoinfrees) t.again = 2;
          Out(t, "H: admits", s.inc);
        }
        return;
      case H_OWN_SETTLE:
        t.owned = GenOf(OwnView(s, H, GRANT));
        t.hstep = H_IDLE;
        Answer(t, t.owned, s.from == 1 ? s.ask.inc : 0);
        return Out(t, "H: grants", s.session, t.owned);
      case H_FREE:
        Memory::store(t, H, GRANT, GrantValue(GenOf(OwnView(s, H, GRANT)), false));
        if (!Memory::flush(t, H, GRANT)) return;
        t.hstep = H_FREE_SETTLE, t.hwait = settle_free;
        return Out(t, "H: grant line := Free");
      case H_FREE_SETTLE:
        t.owned = 0, t.hstep = H_IDLE;
        if (s.again != 1) Answer(t, 0);
        t.again = 0, t.from = 0;
        return Out(t, "H: the extent is free");
    }
  }
  // What was sent to the old process only is gone with its connections.
  void RestartH(S t, const char* what) {
    t.hrestarts--;
    const int line = OwnView(t, H, GRANT);
    t.from = t.again = t.hwait = 0;
    t.known_last = t.known_live = t.known_number = 0;
    memset(t.last_request, 0, sizeof t.last_request);
    memset(t.late, 0, sizeof t.late);
    if (!Memory::flush(t, H, GRANT)) return;
    t.hstep = IsOwned(line) ? H_OWN_SETTLE : line ? H_FREE_SETTLE : H_IDLE;
    t.hwait = settle;
    Out(t, what, 0, 0, true);
  }

  // --- W's daemon ---------------------------------------------------------------------
  int Live() const {
    int live = 0;
    for (int k = 0; k < kSessions; k++)
      if (s.life[k] == LIVE || s.life[k] == DEAD) live |= 1 << k;
    return live;
  }
  void DaemonAsk() {
    S t = s;
    const int k = s.ask.session;
    if (s.ask.kind == NOTHING || s.ask.stage != ANSWERED) return;
    memset(&t.ask, 0, sizeof t.ask);
    t.asks[k] = t.gone[k] = 0;
    if (s.life[k] >= DEAD) {
      if (s.life[k] == OVER) t.may = t.due = 1;
      return Out(t, "W: an answer for nobody", k);
    }
    const bool granted = s.ask.kind == ASK_GRANT && s.ask.answer != kRefused;
    if (granted && (s.ask.answer_inc == s.inc || b_anygrant)) t.holds[k] = s.ask.answer;
    // A return is repeated until it is done.
    if (s.ask.kind == RETURN && s.ask.answer == kRefused)
      t.asks[k] = RETURN, t.gone[k] = s.gone[k];
    Out(t, granted ? "W: granted (or of another incarnation: dropped)" : "W: answered", k,
        s.ask.answer);
  }
  void Daemon() {
    S t = s;
    DaemonAsk();
    for (int k = 0; k < kSessions; k++)
      if (s.life[k] == DEAD) {
        t = s;
        t.life[k] = OVER;
        if (s.may) t.due = 1;
        Out(t, "W: a session is over", k);
      }
    t = s;
    if (s.settling) {
      if (s.dwait) return;
      t.settled |= 1 << s.settling, t.settling = 0, t.due = 1;
      return Out(t, "W: has settled an extent", s.settling);
    }
    if (s.census.kind == NOTHING) {
      if (s.may && !s.due && !b_notime)
        t.due = 1, Out(t, "W: it is time for a census");
      t = s;
      if (!s.due) return;
      t.due = t.used = 0, t.number = s.number + 1;
      t.census = {CENSUS, SENT, s.inc, 0, 0, 0, t.number, s.last, (uint8_t)Live(),
                  s.settled, 0, 0, 0};
      return Out(t, "W: census", Live(), s.settled);
    }
    if (s.census.stage != ANSWERED) return;
    memset(&t.census, 0, sizeof t.census);
    if (s.census.answer == kRefused) {
      t.due = !b_noretry;
      return Out(t, "W: census refused, again");
    }
    for (int k = 0; k < kSessions; k++)  // the home knows that it is over
      if (s.unsure >> k & 1 && IsOver(s.census, k)) t.unsure &= ~(1 << k);
    t.may = s.census.guests || s.used || t.unsure;
    if (s.census.answer == 0) {
      t.settled = 0;
      return Out(t, "W: nothing is unsettled there", t.may);
    }
    if (!b_nosettle && !Memory::flush(t, W, DATA)) return;
    t.settling = s.census.answer, t.dwait = b_nosettle || b_nowait ? 0 : settle;
    Out(t, "W: flush of the extent that H names", s.census.answer);
  }
  static void Late(S& t, const Message& m) {
    if (!t.lates || m.kind == NOTHING) return;
    t.lates--;
    Message& late = t.late[t.late[0].kind ? 1 : 0];
    late = m, late.stage = SENT;
    late.answer = late.answer_inc = late.guests = 0;
  }
  void Lost() {  // a connection breaks: sent again; the deadline of a request
    for (int i = 0; i < 2; i++) {
      const Message& m = i ? s.census : s.ask;
      if (m.kind == NOTHING || !s.lates) continue;
      S t = s;
      Late(t, m);
      (i ? t.census : t.ask).stage = SENT;
      Out(t, "a message goes on its way a second time", m.kind, m.session, true);
      t = s;
      Late(t, m);
      memset(i ? &t.census : &t.ask, 0, sizeof(Message));
      if (s.from == i + 1) t.from = 3;
      t.due |= i;
      if (!i) {
        t.asks[m.session] = m.kind == RETURN ? RETURN : 0;
        if (sticky) t.unsure |= 1 << m.session;
        if (s.life[m.session] == OVER) t.may = t.due = 1;
      }
      Out(t, "W: gives up to wait for an answer", m.kind, m.session, true);
    }
    S t = s;
    memset(t.late, 0, sizeof t.late);
    if (s.late[0].kind) Out(t, "the old connection is gone");
  }
  void ResetDaemon(S& t) {
    t.settled = t.settling = t.dwait = t.may = t.used = 0, t.due = !b_forget;
    Late(t, s.ask);
    Late(t, s.census);
    memset(&t.ask, 0, sizeof t.ask);
    memset(&t.census, 0, sizeof t.census);
    t.from = t.from ? 3 : 0;
  }
  void RestartsW() {
    if (s.drestarts) {
      S t = s;
      t.drestarts--;
      ResetDaemon(t);
      Out(t, "daemon of W is killed, the next one starts", 0, 0, true);
    }
    if (s.suspicions && s.admitted == s.inc) {
      S t = s;
      t.suspicions--;
      t.admitted = 0, t.refused = s.inc;
      Out(t, "H: withdraws W", s.inc, 0, true);
    }
    if (s.crashes) {
      S t = s;
      t.crashes--;
      ResetDaemon(t);
      for (int l = 0; l < LINES; l++) t.dirty[W][l] = NONE;
      for (int k = 0; k < kSessions; k++) {
        if (s.life[k] != NEW) t.life[k] = OVER;
        t.holds[k] = t.asks[k] = t.swait[k] = t.gone[k] = 0;
      }
      t.inc++, t.refused = s.inc, t.admitted = 0;
      const bool frees = b_bootfrees && s.hstep == H_IDLE;
      if (frees && IsOwned(OwnView(s, H, GRANT))) t.hstep = H_FREE;
      Out(t, "W crashes, and boots as its next incarnation", 0, 0, true);
    }
    if (s.refused == s.inc) {
      S t = s;
      t.inc++;
      Out(t, "W: finds itself withdrawn, next incarnation", t.inc);
    }
  }

  // --- W's sessions -------------------------------------------------------------------
  void Send(S& t, int k, Kind kind, int gen) {
    t.number = s.number + 1;
    t.ask = {(uint8_t)kind, SENT, s.inc, (uint8_t)k, t.wants[k], (uint8_t)gen, t.number,
             0, 0, 0, 0, 0, 0};
    t.may = t.used = 1;
  }
  void Session(int k) {
    S t = s;
    if (s.life[k] == NEW && s.last == k) {
      t.life[k] = LIVE, t.last++;
      return Out(t, "W: a session begins", k);
    }
    if (s.life[k] != LIVE) return;
    t.life[k] = DEAD, t.holds[k] = t.asks[k] = t.swait[k] = t.gone[k] = 0;
    Out(t, "session ends", k);
    t = s;
    if (s.holds[k]) {
      Memory::store(t, W, DATA, s.holds[k]);
      if (s.dirty[W][DATA] == NONE) Out(t, "session writes", k, s.holds[k]);
      t = s;
      if (Memory::flush(t, W, DATA)) {  // then it settles, then it returns
        t.asks[k] = RETURN, t.gone[k] = s.holds[k], t.holds[k] = 0;
        t.swait[k] = settle;
        Out(t, "session has written all, flush", k, s.holds[k]);
      }
    }
    if (s.swait[k] || s.ask.kind != NOTHING) return;
    t = s;
    if (s.asks[k] == RETURN) {
      Send(t, k, RETURN, s.gone[k]);
      return Out(t, "session returns the extent", k, s.gone[k]);
    }
    if (s.asks[k]) {  // by the next daemon, with its number
      Send(t, k, ASK_GRANT, s.holds[k]);
      return Out(t, "session asks again", k, t.wants[k]);
    }
    if (s.wants[k] >= asks) return;
    // Requests rise; it may ask for more than it has.
    t.asks[k] = ASK_GRANT, t.wants[k] = s.wants[k] + 1;
    Send(t, k, ASK_GRANT, s.holds[k]);
    Out(t, "session asks for memory", k, t.wants[k]);
  }
  void Tick() {
    S t = s;
    bool any = s.hwait || s.dwait;
    t.hwait -= s.hwait != 0, t.dwait -= s.dwait != 0;
    for (int k = 0; k < kSessions; k++)
      any |= s.swait[k] != 0, t.swait[k] -= s.swait[k] != 0;
    if (any && Memory::tick(t, D)) Out(t, "tick");
  }
  void All() {
    Memory::noise(*this, s);
    Home();
    Daemon();
    Lost();
    RestartsW();
    for (int k = 0; k < kSessions; k++) Session(k);
    if (s.hrestarts) {
      RestartH(s, "daemon H is killed, the next one starts");
      S t = s;
      t.dirty[H][GRANT] = NONE;
      if (hcrash) RestartH(t, "node H reboots, its dirty lines are lost");
    }
    if (kPosted) Tick();
  }
};

int main(int c, char** v) {
  Args a(c, v);
  asks = a.num("asks", 2);
  G = a.num("G", 2), D = a.num("D", 1), settle = kPosted ? D + 1 : 0;
  settle_free = kPosted ? a.num("s_free", D + 1) : 0;
  hcrash = a.has("hcrash"), merged = a.has("merged"), anyinc = a.has("anyinc");
  asknumbers = a.has("asknumbers"), sticky = a.has("sticky");
#define BUG(x) b_##x = a.has("bug=" #x)
  BUG(rejoinfrees);
  BUG(bootfrees);
  BUG(freeover);
  BUG(nosettle);
  BUG(nowait);
  BUG(nolast);
  BUG(nogen);
  BUG(noreturngen);
  BUG(nonumber);
  BUG(norequestorder);
  BUG(anygrant);
  BUG(takeunknown);
  BUG(noretry);
  BUG(forget);
  BUG(notime);
  S s;
  Memory::init(s);
  memset(s.mask, 0, sizeof s.mask);
  s.inc = s.admitted = 1;
  s.hrestarts = a.num("hrestarts", 0), s.drestarts = a.num("drestarts", 0);
  s.suspicions = a.num("suspicions", 0), s.crashes = a.num("crashes", 0);
  s.lates = a.num("lates", 0);
  for (int k = a.num("sessions", 2); k < kSessions; k++) s.life[k] = OVER;
  return Check<Model>(
      a, s, [](const S& t) { return !t.owned && !t.pages && t.hstep == H_IDLE; });
}
