// Model R: requests across restarts of the home daemon, exactly once (docs/protocol.md
// P4, L11, R1 to R3, C9; src/daemon/publisher.cc, session_server.cc, reply_cache.h,
// space.cc, src/client/daemon_channel.cc).
//
// One home, which leads the catalog (with `async` another node leads, or has the old
// version: steps of a put wait for messages), and two sessions of its node. Session 0
// asks for a grant, puts the name once or twice and returns the grant; session 1 puts the
// same name or removes what it finds there, or does not. The daemon is killed between any
// two of its stores; then its sessions go on with the next one: they name the grants that
// they know of, and repeat the request that was not answered, marked. Connections also
// break without a death. Of memory only the order matters here (daemon and sessions are
// one coherent node), so a store is one step and stays. Reference counts and caches:
// object.cpp, reference.cpp.
//
// Checked: "once" (a put or remove takes effect at most once; who is told "done" was
// done, who is told "failed" was not), S2 (nobody is told of a grant that is not his), S5
// (a visible table is not undone), S4 (a way to: all answered, nothing held but one
// version).
#include "mc.hpp"
constexpr int kSlots = 3, kSessions = 2, kPuts = 3;

enum SlotState { FREE, SEALED, BOUND, RETIRED };
enum Kind { END, GET, PUT, REMOVE, RETURN };
struct Op {
  Kind kind;
  int put;  // its number, and the request that the record names
};
static Op script[kSessions][6];
static int SessionOf(int put) { return put == 2; }

enum Reply { NO_REPLY, DONE, FAILED };
enum Attempt { A_NONE, A_BIND, A_BOUND, A_LAST, A_COMMIT, A_RETIRE, A_UNDO };
#pragma pack(push, 1)
struct S {
  // In memory: slots with the put that made them, grants of session 0 (one bit each),
  // and, if the rule `last` is on, the last put of each session that became visible.
  uint8_t state[kSlots], put[kSlots], version[kSlots];
  uint8_t owned, grant_gen, last[kSessions];
  // The daemon; all of it is lost with it. `mid`: the put whose stores belong together.
  uint8_t step[kPuts + 1], slot[kPuts + 1], mid, top, entry;  // entry: slot + 1, 0 none
  uint8_t attached[kSessions], under_way[kSessions], cached[kSessions],
      cached_reply[kSessions];
  // Sessions and what is between them and the daemon.
  uint8_t at[kSessions], sent[kSessions], repeated[kSessions], reply[kSessions],
      reply_gen;
  uint8_t known,
      found;  // grant generation that session 0 knows; slot + 1 that session 1 removes
  uint8_t found_put, dead, restarts, cuts, losses;
  uint8_t superseded[kPuts + 1];  // slots that a put has to retire
  uint8_t visible, removed;  // ghosts: puts that were Bound and not undone, the version
                             // that was removed
};
#pragma pack(pop)

static bool replace, last_rule, crash, async, remove_waits;
static bool b_noreqid, b_norecover, b_undobound, b_nolosers, b_nocache, b_removestale,
    b_forgetgrant, b_grantcache, b_lastlate, b_returnstale, b_failnote;

struct Model {
  MC<S>& mc;
  const S& s;
  void Out(const S& t, const char* label, int a = 0, int b = 0, bool noise = false) {
    mc.emit(t, label, a, b, noise);
  }
  const Op& Now(int c) { return script[c][s.at[c]]; }

  // --- sessions -----------------------------------------------------------------------
  void Session(int c) {
    if (s.dead >> c & 1) return;
    const Op& op = Now(c);
    S t = s;
    if (!s.attached[c]) {  // with the next daemon
      t.attached[c] = 1;
      // The daemon gives back what the session does not know of.
      if (c == 0 && !b_forgetgrant) t.owned &= 1 << s.known;
      if (s.sent[c]) t.sent[c] = 1, t.repeated[c] = 1;
      return Out(t, "session: goes on, names its grants", c, s.known);
    }
    if (op.kind != END && !s.sent[c]) {
      if (op.kind == REMOVE) {
        t.found = s.entry;
        if (s.entry) t.found_put = s.put[s.entry - 1];
        if (!s.entry) {
          t.at[c]++;
          return Out(t, "session: finds no such name", c);
        }
      }
      t.sent[c] = 1;
      Out(t, "session: asks", c, op.kind);
    }
    if (s.reply[c]) Take(c, op);
    if (s.cuts && s.sent[c]) {
      t = s;
      t.cuts--, t.reply[c] = 0, t.attached[c] = 0;
      Out(t, "connection breaks", c, 0, true);
    }
    if (crash && c == 0 && s.at[c] < 4) {  // D3, by the daemon that lives or the next
      t = s;
      t.dead |= 1;
      t.sent[c] = t.reply[c] = t.owned = t.known = 0;
      Out(t, "session dies", c, 0, true);
    }
  }
  void Take(int c, const Op& op) {
    S t = s;
    bool done = s.reply[c] == DONE;
    if (op.kind == PUT) {
      bool visible = s.visible >> op.put & 1;
      if (done && !visible) viol("once: a put that was not done is answered as done");
      if (!done && visible) viol("once: a put that was done is answered as failed");
    }
    if (op.kind == REMOVE && !done && s.removed)
      viol("once: a remove that was done is answered as failed");
    if (op.kind == RETURN && !done)
      viol("once: a return that was done is answered as failed");
    if (op.kind == GET) {
      if (!(s.owned >> s.reply_gen & 1))
        viol("S2: told of a grant that is not held any more");
      t.known = s.reply_gen;
    }
    if (op.kind == RETURN) t.known = 0;
    t.at[c]++;
    t.sent[c] = t.repeated[c] = t.reply[c] = 0;
    if (op.kind == REMOVE) t.found = t.found_put = 0;
    Out(t, done ? "session: is told done" : "session: is told failed", c, op.put);
  }

  // --- the daemon ---------------------------------------------------------------------
  void Answer(S& t, int c, Reply reply) {
    t.under_way[c] = 0;
    if (t.sent[c]) t.reply[c] = reply;
    t.cached[c] = t.at[c] + 1, t.cached_reply[c] = reply;
    if (Now(c).kind == GET && !b_grantcache) t.cached[c] = 0;  // never told twice
  }
  void Request(int c) {
    if (!s.attached[c] || s.sent[c] != 1 || s.mid) return;
    const Op& op = Now(c);
    S t = s;
    t.sent[c] = 2;  // received
    if (!b_nocache && s.under_way[c]) return Out(t, "home: that is under way", c);
    if (!b_nocache && s.cached[c] == s.at[c] + 1) {
      t.reply[c] = s.cached_reply[c];
      return Out(t, "home: answers from its cache", c);
    }
    if (op.kind == GET) {
      t.grant_gen++, t.reply_gen = t.grant_gen, t.owned |= 1 << t.grant_gen;
      Answer(t, c, DONE);
      return Out(t, "home: grants", t.grant_gen);
    }
    if (op.kind == RETURN) {
      bool ok = s.owned >> s.known & 1;
      t.owned &= ~(1 << s.known);
      Answer(t, c, ok || (s.repeated[c] && !b_returnstale) ? DONE : FAILED);
      return Out(t, "home: takes the return", ok);
    }
    if (op.kind == REMOVE) return Remove(t, c);
    Publish(t, c, op.put);
  }
  void Remove(S t, int c) {
    int k = s.found - 1;
    for (int put = 1; remove_waits && put <= kPuts; put++)
      if (s.step[put] && s.slot[put] == k) return;               // until that put is over
    bool same = s.put[k] == s.found_put && s.state[k] == BOUND;  // this generation
    if (same) {
      if (s.removed) viol("once: a remove is done twice");
      t.state[k] = RETIRED, t.removed = s.version[k];
      if (s.entry == k + 1) t.entry = 0;
    }
    Answer(t, c, same || (s.repeated[c] && !b_removestale) ? DONE : FAILED);
    Out(t, same ? "home: retires" : "home: that is gone", k);
  }
  void Publish(S t, int c, int put) {
    t.under_way[c] = 1;
    if (s.repeated[c] && last_rule && s.last[c] == put) {
      Answer(t, c, DONE);
      return Out(t, "home: that was the last put of the session", put);
    }
    for (int k = 0; k < kSlots && s.repeated[c] && !b_noreqid; k++)
      if (s.put[k] == put && s.state[k] == BOUND) {
        t.slot[put] = k, t.step[put] = A_COMMIT;
        if (!async) t.mid = put;
        return Out(t, "home: was published before, commits again", put, k);
      }
    if (!replace && s.entry) {
      Answer(t, c, FAILED);
      return Out(t, "home: the name exists", put);
    }
    int k = 0;
    while (k < kSlots && s.state[k] != FREE) k++;
    if (k == kSlots) return;  // wait for one
    if (c == 0 && !(s.owned >> s.known & 1))
      viol("S2: a put whose bytes are in no grant of the session");
    t.state[k] = SEALED, t.put[k] = put, t.version[k] = 0;
    t.slot[put] = k, t.step[put] = A_BIND;
    if (!async) t.mid = put;
    Out(t, "home: record, slot := Sealed", put, k);
  }
  // The highest Bound version; all lower ones are superseded.
  static int Winner(const S& t) {
    int best = -1;
    for (int k = 0; k < kSlots; k++)
      if (t.state[k] == BOUND && (best < 0 || t.version[k] > t.version[best])) best = k;
    return best;
  }
  static void SetEntry(S& t, int k) {
    if (k >= 0 && t.version[k] < t.removed)
      viol("S5: a version older than one that was removed is back");
    t.entry = k + 1;
  }
  void Attempts(int put) {
    int c = SessionOf(put), k = s.slot[put];
    if (s.mid && s.mid != put) return;
    S t = s;
    switch (s.step[put]) {
      case A_BIND:
        if (!replace && s.entry) {  // another one was faster
          t.state[k] = RETIRED, t.step[put] = t.mid = 0;
          Answer(t, c, FAILED);
          return Out(t, "home: the name exists, undoes", put);
        }
        t.top++, t.version[k] = t.top;
        t.step[put] = A_BOUND, t.mid = put;
        return Out(t, "home: version", put, t.top);
      case A_BOUND:
        if (s.visible >> put & 1) viol("once: a put is done twice");
        t.state[k] = BOUND, t.visible |= 1 << put;
        t.step[put] = last_rule ? A_LAST : A_COMMIT;
        if (async && !last_rule) t.mid = 0;
        if (b_lastlate) t.mid = 0;
        return Out(t, "home: slot := Bound", put, k);
      case A_LAST:
        t.last[c] = put, t.step[put] = A_COMMIT;
        if (async) t.mid = 0;
        return Out(t, "home: last put of the session", put);
      case A_COMMIT:
        if (!replace && async && s.losses) {  // the leader does not answer: undone
          S u = s;
          u.losses--, u.step[put] = A_UNDO;
          if (!b_failnote && u.last[c] == put) u.last[c] = 0;
          Out(u, "home: the commit fails, forgets the put", put, 0, true);
        }
        SetEntry(t, Winner(s)), t.step[put] = A_RETIRE;
        for (int i = 0; i < kSlots; i++)
          if (s.state[i] == BOUND && i != Winner(s)) t.superseded[put] |= 1 << i;
        return Out(t, "home: commits", put, t.entry);
      case A_UNDO:
        if (s.state[k] == BOUND) t.state[k] = RETIRED;
        t.visible &= ~(1 << put);
        if (s.entry == k + 1) t.entry = 0;
        t.step[put] = A_NONE;
        Answer(t, c, FAILED);
        return Out(t, "home: undoes the put", put, k);
      case A_RETIRE:
        for (int i = 0; i < kSlots; i++)
          if (s.superseded[put] >> i & 1) {
            t.superseded[put] &= ~(1 << i);
            if (s.state[i] == BOUND) t.state[i] = RETIRED;
            return Out(t, "home: retires what is superseded", put, i);
          }
        t.step[put] = t.mid = 0;
        Answer(t, c, DONE);
        return Out(t, "home: the put is done", put);
    }
  }
  void Reclaim() {
    if (s.mid) return;
    for (int k = 0; k < kSlots; k++) {
      bool used = false;  // an attempt that still names it: this model has no generations
      for (int put = 1; put <= kPuts; put++)
        used |= (s.step[put] && s.slot[put] == k) || s.superseded[put] >> k & 1;
      if (s.state[k] != RETIRED || used) continue;
      S t = s;
      t.state[k] = t.put[k] = t.version[k] = 0;
      Out(t, "home: frees", k);
    }
  }
  // The next daemon: Claim, RetireLosers, Recover. A death in the middle repeats them.
  void Restart() {
    S t = s;
    t.restarts--;
    memset(t.step, 0, sizeof t.step);
    memset(t.slot, 0, sizeof t.slot);
    memset(t.superseded, 0, sizeof t.superseded);
    t.mid = 0;
    for (int c = 0; c < kSessions; c++) {
      t.attached[c] = t.reply[c] = t.under_way[c] = t.cached[c] = t.cached_reply[c] = 0;
      if (t.sent[c]) t.sent[c] = 1;
    }
    int winner = Winner(t);
    SetEntry(t, winner);
    for (int k = 0; k < kSlots; k++) {
      if (t.state[k] == SEALED && !b_norecover) t.state[k] = RETIRED;
      if (t.state[k] == BOUND && last_rule && t.put[k] > t.last[SessionOf(t.put[k])])
        t.last[SessionOf(t.put[k])] = t.put[k];
      if (t.state[k] == BOUND && k != winner && !b_nolosers) t.state[k] = RETIRED;
      if (t.state[k] == BOUND && b_undobound) {
        t.state[k] = RETIRED;
        viol("S5: a visible table is undone");
      }
    }
    Out(t, "daemon is killed, the next one starts", winner, 0, true);
  }
  void All() {
    for (int c = 0; c < kSessions; c++) {
      Session(c);
      Request(c);
    }
    for (int put = 1; put <= kPuts; put++) Attempts(put);
    Reclaim();
    if (s.restarts) Restart();
  }
};

// All is answered and nothing is held but the version that is current.
static bool Quiet(const S& s) {
  int bound = 0;
  for (int k = 0; k < kSlots; k++) {
    if (s.state[k] == BOUND)
      bound++;
    else if (s.state[k] != FREE)
      return false;
  }
  for (int c = 0; c < kSessions; c++)
    if (script[c][s.at[c]].kind != END && !(s.dead >> c & 1)) return false;
  for (int put = 1; put <= kPuts; put++)
    if (s.step[put]) return false;
  return bound <= 1 && !s.owned && (bound == 0 || s.entry);
}

int main(int argc, char** argv) {
  Args a(argc, argv);
  replace = !a.has("create"), last_rule = a.has("last"), crash = a.has("crash"),
  async = a.has("async");
  remove_waits = a.has("removewaits");
#define BUG(x) b_##x = a.has("bug=" #x)
  BUG(noreqid);
  BUG(norecover);
  BUG(undobound);
  BUG(nolosers);
  BUG(nocache);
  BUG(removestale);
  BUG(forgetgrant);
  BUG(grantcache);
  BUG(lastlate);
  BUG(returnstale);
  BUG(failnote);
  int n = 0;
  script[0][n++] = {GET, 0};
  script[0][n++] = {PUT, 1};
  if (a.has("twice")) script[0][n++] = {PUT, 3};
  script[0][n++] = {RETURN, 0};
  if (a.has("remove")) script[1][0] = {REMOVE, 0};
  if (a.has("put")) script[1][0] = {PUT, 2};
  S s;
  memset(&s, 0, sizeof s);
  s.attached[0] = s.attached[1] = 1;
  s.restarts = a.num("restarts", 0), s.cuts = a.num("cuts", 0),
  s.losses = a.num("losses", 0);
  MC<S> mc;
  mc.quiet = a.has("quiet");
  return mc.run(s, [](MC<S>& m, const S& st) { Model{m, st}.All(); }, Quiet, true);
}
