// Model N: a table in parts is decided by its list (docs/tables.md;
// src/client/staging.cc, staged_table.cc, part_put.cc).
//
// Two writers put one part each. The list of parts is a version of a reserved name, and
// changed by compare and swap alone: gathering -> complete | over. Whoever brings the last
// part prepares the table as an object, stores it in the list as its candidate, keeps
// candidate and parts (so that no death takes them along), decides "complete", publishes
// under the name, clears up. Whoever meets a list goes on from what it says. Meanwhile one
// aborts, the deadline passes, another one puts a table of that name, or removes what is
// there. Everybody may die between any two steps; what is not kept goes with its process.
// A writer's node may be declared off, and come back: what it prepared and kept is void
// from then on, and made anew by whoever meets its list; what lies there and is to go is
// left in the list until that node is back.
// A compare and swap of the list, a publish, a keep, a drop are one step each: that the
// catalog makes them so is in replace.cpp. So is where a version of the list lies.
//
// Checked: all (all parts or none; a complete list becomes a table unless the name was
// taken; aborted: never a table; told it is a table: it was one), once (with "told": who is
// told that there is none has no part in one), S4 (a way to "no list, no object left").
// Compile: -DPOST=0 (memory order is not in it).
#include "mc.hpp"
constexpr int kWriters = 2, kProcesses = 4, kManifests = 6, kLists = 2;
enum { ABORTER = kWriters, MEETER };  // the meeter never dies
enum Object { NOWHERE, THERE, KEPT, BOUND, GONE, VOID };
enum Node { UP, OFF, BACK };
enum ListState { NO_LIST, GATHERING, COMPLETE, OVER };
constexpr int kNothing = 15, kOther = 14;  // no manifest; a table that another one put
constexpr int kLeftId = 7;  // of a list that has leftovers only

enum Pc {
  IDLE,
  MEET,
  PREPARE,
  STORE_CANDIDATE,
  KEEP_PART,  // + part
  KEEP_CANDIDATE = KEEP_PART + kWriters,
  DECIDE,
  PUBLISH,
  ANEW,
  STORE_ANEW,
  KEEP_ANEW,
  PROMOTE,
  DROP_MANIFEST,
  END_DECIDED,
  CLEAR_PART,  // + part
  CLEAR_CANDIDATE = CLEAR_PART + kWriters,
  CLEAR_MANIFEST,
  CLEAR_LEFT,
  ERASE,
  END,
  PLACE,
  STORE,
  DROP_FORMER,
  CHECK_NAME,
  CHECK_OTHER,
  KEEP_OWN,
  COMPLETED,
  LOOK,
  ABORT,
  DONE,
  DEAD
};
enum Told { NOT_TOLD, STAGED, TABLE, EXISTS, ABORTED, FINISHED };
enum After { A_MEET = 1, A_COMPLETED, A_LOOK, A_PLACE, A_ABORT };

#pragma pack(push, 1)
struct List {
  uint8_t state, id, entries, manifest, candidate, left;  // left: PartBit, ManifestBit
};
struct Process {
  uint8_t pc, told, fresh, id, tmp, former, met, end, aborting, rest;
  List list;  // as it was loaded; fresh: nobody changed it since
};
struct S {
  List list;
  uint8_t ids, late, table, part[kWriters];
  uint8_t manifest[kManifests], of_id[kManifests], owner[kManifests];
  uint8_t published, aborted;  // by id
  uint8_t deaths, puts, removes, deadline, refused, voided;
  uint8_t offs, node[kWriters];
  Process p[kProcesses];
};
#pragma pack(pop)

static bool strict, as_told, remove_other;
static bool b_nokeep, b_blind, b_decidelate, b_aborterases, b_dropbound, b_remake, b_keepcandidate;
static bool b_novoid, b_forget;

struct Model {
  MC<S>& mc;
  const S& s;
  int n = 0;
  void Out(S t, const char* label, int a = 0, bool noise = false) {
    Process& p = t.p[n];
    if (p.pc == DONE || p.pc == DEAD || p.pc == IDLE) {
      const uint8_t pc = p.pc, told = p.told, id = p.id;
      memset(&p, 0, sizeof p);
      p.pc = pc, p.told = told, p.id = id;
    }
    for (int i = 0; i < kWriters && strict; i++) {
      const Process& w = t.p[i];
      if ((w.told == EXISTS || w.told == ABORTED) && w.id && (t.published >> w.id & 1))
        viol("once: a writer is told that there is no table, its part is in one");
    }
    if (t.published & t.aborted) viol("all: a put that was aborted is a table");
    mc.emit(t, label, n, a, noise);
  }
  static bool There(const S& t, int part) {
    return t.part[part] == THERE || t.part[part] == KEPT;
  }
  static bool Is(const S& t, int m, int object) {
    return m != kNothing && t.manifest[m] == object;
  }
  static int PartBit(int i) { return 1 << i; }
  static int ManifestBit(int m) { return m == kNothing ? 0 : 1 << (kWriters + m); }
  static bool IsOff(const S& t, int process) {
    return process < kWriters && t.node[process] == OFF;
  }
  static bool IsOffOf(const S& t, int m) {
    return m != kNothing && IsOff(t, t.owner[m]);
  }
  // False if it is there still, at a node that is off.
  static bool Drop(S& t, int m) {
    if (m == kNothing || t.manifest[m] == BOUND || t.manifest[m] == GONE) return true;
    if (IsOffOf(t, m)) return false;
    t.manifest[m] = GONE;
    return true;
  }
  static bool DropPart(S& t, int i) {
    if (t.part[i] && IsOff(t, i) && t.part[i] != GONE) return false;
    if (t.part[i]) t.part[i] = GONE;
    return true;
  }
  // It is there, and nobody can do anything about it now.
  static bool IsLeft(const S& t) {
    if (t.list.state != OVER || t.list.id != kLeftId) return false;
    for (int i = 0; i < kWriters; i++)
      if (t.list.left & PartBit(i) && !IsOff(t, i)) return false;
    for (int m = 0; m < kManifests; m++)
      if (t.list.left & ManifestBit(m) && !IsOffOf(t, m)) return false;
    return true;
  }
  // Compare and swap: true if nobody changed the list since it was loaded.
  bool Swap(S& t, const List& next) {
    if (!t.p[n].fresh && !b_blind) return false;
    t.list = next;
    for (Process& p : t.p) p.fresh = 0;
    t.p[n].fresh = 1, t.p[n].list = next;
    return true;
  }
  static List Empty() { return {NO_LIST, 0, 0, kNothing, kNothing, 0}; }
  static List Leftovers(int left) {
    if (left == 0) return Empty();
    return {OVER, kLeftId, 0, kNothing, kNothing, (uint8_t)left};
  }
  void Tell(S& t, int told) {
    t.p[n].told = told, t.p[n].pc = DONE;
    const int id = t.p[n].id;
    if (told == TABLE && !(t.published >> id & 1))
      viol("all: told that it is a table, which it never was");
  }
  bool HasTable(const S& t, int id) const {  // VersionWith
    return t.table < kManifests && t.of_id[t.table] == id;
  }
  int NewManifest(S& t, int id) {
    for (int m = 0; m < kManifests; m++)
      if (t.manifest[m] == NOWHERE) {
        t.manifest[m] = THERE, t.of_id[m] = id, t.owner[m] = n;
        return m;
      }
    return kNothing;
  }

  void Load(S& t) { t.p[n].list = s.list, t.p[n].fresh = 1; }
  // Where MeetStaging, AbortStaged and CompleteStaged go on.
  void Return(S& t) {
    Process& p = t.p[n];
    p.pc = p.aborting ? ABORT : p.met == A_COMPLETED ? COMPLETED : MEET;
  }
  void Met(S& t) {
    Process& p = t.p[n];
    if (n == MEETER) p.pc = IDLE;
    if (n < kWriters) p.pc = p.met == A_LOOK ? LOOK : PLACE;
  }
  void Step() {
    S t = s;
    Process& p = t.p[n];
    const Process& q = s.p[n];
    List next = q.list;
    switch (q.pc) {
      case MEET:
        Load(t);
        p.tmp = p.former = kNothing, p.end = 0, p.rest = 0;
        if (IsLeft(s)) {
          Met(t);
        } else if (s.list.state == COMPLETE) {
          p.pc = PUBLISH;
        } else if (s.list.state == OVER) {
          p.pc = CLEAR_PART;
        } else if (s.list.state == GATHERING && s.late) {
          p.pc = END;
        } else if (s.list.state == GATHERING) {
          for (int i = 0; i < kWriters; i++)
            if (!There(s, i)) p.list.entries &= ~(1 << i);
          if (p.list.entries != 3) {
            Met(t);
          } else {
            const int m = s.list.candidate;
            p.pc = Is(s, m, THERE) || Is(s, m, KEPT) ? KEEP_PART : PREPARE;
          }
        } else {
          Met(t);
        }
        return Out(t, "meets the list", s.list.state);
      case PREPARE:  // AssembleStaged opens all parts; Put keeps their bytes
        if (!There(s, 0) || !There(s, 1)) {
          p.pc = MEET, p.met = 0;
          return Out(t, "a part is gone, looks again");
        }
        p.tmp = NewManifest(t, q.list.id);
        if (p.tmp == kNothing) return;
        p.pc = n < kWriters && q.met == A_PLACE ? STORE : STORE_CANDIDATE;
        return Out(t, "prepares the table", p.tmp);
      case STORE_CANDIDATE:
        next.left |= ManifestBit(q.list.candidate);
        next.candidate = q.tmp;
        if (Swap(t, next)) {
          p.pc = KEEP_PART;
          return Out(t, "list := with its candidate", q.tmp);
        }
        Drop(t, q.tmp);
        p.pc = MEET;
        return Out(t, "list changed, drops its candidate", q.tmp);
      case KEEP_CANDIDATE: {
        const int m = q.list.candidate;
        if (b_nokeep || Is(s, m, THERE)) p.pc = DECIDE;
        if (!b_nokeep && Is(s, m, THERE)) t.manifest[m] = KEPT;
        if (Is(s, m, KEPT)) p.pc = DECIDE;
        if (p.pc != DECIDE) Return(t);
        if (b_decidelate && p.pc == DECIDE) p.list.manifest = m, p.pc = PUBLISH;
        return Out(t, "keeps the candidate", m);
      }
      case DECIDE:
        next.state = COMPLETE, next.manifest = q.list.candidate;
        next.candidate = kNothing;
        if (Swap(t, next))
          p.pc = PUBLISH;
        else
          Return(t);
        return Out(t, p.pc == PUBLISH ? "list := complete" : "list changed");
      case PUBLISH: {
        const int m = q.list.manifest;
        const int id = 1 << s.of_id[m];
        if (s.manifest[m] == BOUND) {
          if (IsOffOf(s, m)) return;  // told so; once it is back
          p.end = TABLE, p.pc = CLEAR_PART;
          return Out(t, "is published already", m);
        }
        if (s.manifest[m] == VOID || IsOffOf(s, m)) {
          if (s.manifest[m] != GONE) {
            p.pc = ANEW;
            return Out(t, "its manifest is void", m);
          }
        }
        if (s.manifest[m] == GONE) {
          if (!(s.published & id) && !((s.refused | s.voided) >> m & 1) &&
              q.list.state == COMPLETE)
            viol("all: a complete put is nothing");
          p.pc = b_remake && s.list.state == COMPLETE ? PREPARE : END_DECIDED;
          return Out(t, "its manifest is gone: was put, or refused", m);
        }
        if (s.table != kNothing) {
          p.pc = DROP_MANIFEST;
          return Out(t, "the name is another table's", m);
        }
        if (s.published & id) viol("all: a put is a table twice");
        t.table = m, t.manifest[m] = BOUND, t.published |= id;
        p.end = TABLE, p.pc = CLEAR_PART;
        return Out(t, "publishes the table", m);
      }
      case END_DECIDED: {  // What was void may have been made anew.
        const int m = q.list.manifest;
        next.state = OVER;
        if (!Swap(t, next)) {
          Return(t);
          return Out(t, "list changed meanwhile");
        }
        if (!(s.published >> s.of_id[m] & 1) && !(s.refused >> m & 1))
          viol("all: a complete put is nothing");
        p.pc = CLEAR_PART;
        return Out(t, "list := over, what it says is done");
      }
      case ANEW:
        p.pc = q.list.candidate == kNothing ? STORE_ANEW : KEEP_ANEW;
        if (p.pc == STORE_ANEW) {
          if (!There(s, 0) || !There(s, 1)) {
            Return(t);
            return Out(t, "a part is gone, looks again");
          }
          p.tmp = NewManifest(t, q.list.id);
          if (p.tmp == kNothing) return;
        }
        return Out(t, "prepares the table anew", p.tmp);
      case STORE_ANEW:
        next.candidate = q.tmp;
        if (Swap(t, next)) {
          p.pc = KEEP_ANEW;
          return Out(t, "list := complete, with its candidate", q.tmp);
        }
        Drop(t, q.tmp);
        Return(t);
        return Out(t, "list changed, drops its candidate", q.tmp);
      case KEEP_ANEW: {
        const int m = q.list.candidate;
        if (Is(s, m, THERE)) t.manifest[m] = KEPT;
        if (Is(t, m, KEPT)) {
          p.pc = PROMOTE;
        } else {  // the next one who prepares it anew names it as left
          p.list.candidate = kNothing, p.list.left |= ManifestBit(m), p.pc = ANEW;
        }
        return Out(t, "keeps the next manifest", m);
      }
      case PROMOTE:
        if (!b_forget) next.left |= ManifestBit(next.manifest);
        next.manifest = next.candidate, next.candidate = kNothing;
        if (Swap(t, next))
          p.pc = PUBLISH;
        else
          Return(t);
        return Out(t, "list := complete, of the next manifest", next.manifest);
      case DROP_MANIFEST: {
        const int m = q.list.manifest;
        if (IsOffOf(s, m) || Is(s, m, VOID)) {
          p.pc = PUBLISH;
          return Out(t, "cannot drop it: its node is off");
        }
        if (s.manifest[m] == BOUND && !b_dropbound) {
          p.pc = PUBLISH;
          return Out(t, "cannot drop it: is published", m);
        }
        if (s.manifest[m] != BOUND) t.manifest[m] = GONE, t.refused |= 1 << m;
        p.end = EXISTS, p.pc = CLEAR_PART;
        return Out(t, "drops its manifest, refused", m);
      }
      case CLEAR_CANDIDATE:
        p.pc = CLEAR_MANIFEST;
        if (q.list.state == OVER && !b_keepcandidate && !Drop(t, q.list.candidate))
          p.rest |= ManifestBit(q.list.candidate);
        return Out(t, "drops a candidate");
      case CLEAR_MANIFEST:
        p.pc = CLEAR_LEFT;
        if (q.list.state == OVER && !Drop(t, q.list.manifest))
          p.rest |= ManifestBit(q.list.manifest);
        return Out(t, "drops a manifest");
      case CLEAR_LEFT:
        p.pc = ERASE;
        for (int i = 0; i < kWriters; i++)
          if (q.list.left & PartBit(i) && !DropPart(t, i)) p.rest |= PartBit(i);
        for (int m = 0; m < kManifests; m++)
          if (q.list.left & ManifestBit(m) && !Drop(t, m)) p.rest |= ManifestBit(m);
        return Out(t, "drops what was left", p.rest);
      case ERASE:
        p.rest = 0;
        if (q.fresh) t.list = Leftovers(q.rest);
        if (q.fresh)
          for (Process& r : t.p) r.fresh = 0;
        if (q.aborting && q.end == ABORTED && q.list.state == OVER) {
          p.end = 0, p.aborting = 0;
          if (n == ABORTER) Tell(t, ABORTED);
          if (n < kWriters) Tell(t, EXISTS);
        } else {
          if (q.aborting && q.list.state == COMPLETE) p.end = FINISHED;
          Return(t);
        }
        return Out(t, "erases the list", q.rest);
      case END:
        next.state = OVER;
        if (b_aborterases) {
          t.aborted |= 1 << q.list.id;
          p.list.state = OVER, p.end = ABORTED, p.pc = CLEAR_PART;
          return Out(t, "aborts: drops what it has seen", q.list.id);
        }
        if (!Swap(t, next)) {
          Return(t);
          return Out(t, "list changed, cannot end it");
        }
        t.aborted |= 1 << next.id;
        p.end = ABORTED, p.pc = CLEAR_PART;
        return Out(t, "list := over", next.id);
      case PLACE:
        p.former = q.list.state == GATHERING ? q.list.candidate : (uint8_t)kNothing;
        if (q.list.state != GATHERING) {
          if (s.ids == kLists) {
            p.id = 0;
            Tell(t, ABORTED);
            return Out(t, "(no more lists)");
          }
          t.ids++;
          p.list = {GATHERING, t.ids, 0, kNothing, kNothing, q.list.left};
        }
        if (IsOffOf(s, p.former)) p.list.left |= ManifestBit(p.former);
        p.list.candidate = kNothing;
        p.list.entries |= 1 << n;
        p.met = A_PLACE;
        p.pc = p.list.entries == 3 ? PREPARE : STORE;
        return Out(t, "adds its part", p.list.entries);
      case STORE:
        next.candidate = q.tmp;
        p.met = 0;
        if (!Swap(t, next)) {
          Drop(t, q.tmp);
          p.pc = MEET;
          return Out(t, "list changed, looks again");
        }
        p.id = next.id;
        p.pc = DROP_FORMER;
        return Out(t, "list := with its part", next.entries);
      case DROP_FORMER:
        Drop(t, q.former);
        p.pc = q.list.entries == 3 ? KEEP_PART : CHECK_NAME;
        p.end = 0;
        if (q.list.entries == 3) p.met = A_COMPLETED;
        return Out(t, "drops the candidate of before");
      case CHECK_NAME:  // CheckNoOther
        p.pc = s.table == kNothing ? KEEP_OWN : CHECK_OTHER;
        return Out(t, "looks for another table", s.table);
      case CHECK_OTHER:
        p.pc = HasTable(s, q.id) ? KEEP_OWN : ABORT;
        p.aborting = p.pc == ABORT;
        return Out(t, "looks whether it is its own", s.table);
      case KEEP_OWN:
        if (s.part[n] == THERE) t.part[n] = KEPT;
        if (There(t, n))
          Tell(t, STAGED);
        else
          Tell(t, HasTable(s, q.id) ? TABLE : ABORTED);
        return Out(t, "keeps its own part");
      case COMPLETED:
        p.met = A_LOOK;
        p.pc = MEET;
        if (q.end == TABLE) Tell(t, TABLE);
        if (q.end == EXISTS) Tell(t, EXISTS);
        return Out(t, "has completed, or others do", q.end);
      case LOOK:
        if (q.list.state == GATHERING && q.list.id == q.id)
          p.pc = KEEP_OWN;
        else
          Tell(t, HasTable(s, q.id) ? TABLE : ABORTED);
        return Out(t, "looks what became of it");
      case ABORT:
        Load(t);
        p.rest = 0;
        if (s.list.state == NO_LIST || IsLeft(s) || (n < kWriters && s.list.id != q.id)) {
          if (n == ABORTER) Tell(t, q.end == FINISHED ? FINISHED : NOT_TOLD);
          // CheckNoOther tells the same whatever AbortStaged found; `astold` would not.
          if (n < kWriters)
            Tell(t, as_told && HasTable(s, q.id) ? TABLE : EXISTS);
        } else {
          p.pc = s.list.state == COMPLETE ? PUBLISH
                 : s.list.state == OVER   ? CLEAR_PART
                                          : END;
        }
        return Out(t, "abort: loads the list", s.list.state);
      case DONE:
      case DEAD:
      case IDLE:
        return;
    }
    if (q.pc >= KEEP_PART && q.pc < KEEP_PART + kWriters) {
      const int i = q.pc - KEEP_PART;
      if (s.part[i] == THERE) t.part[i] = KEPT;
      p.pc++;
      if (!There(s, i)) Return(t);
      return Out(t, "keeps a part", i);
    }
    const int i = q.pc - CLEAR_PART;
    if (q.list.entries >> i & 1 && !DropPart(t, i)) p.rest |= PartBit(i);
    p.pc++;
    Out(t, "drops a part", i);
  }
  void Withdraw() {
    S t = s;
    if (s.list.state && s.list.id == s.p[n].id && (s.list.entries >> n & 1)) {
      if (s.list.state != GATHERING) return;
      t.list.entries &= ~(1 << n);
      for (Process& r : t.p) r.fresh = 0;
    }
    t.part[n] = GONE;
    Out(t, "takes its part back");
  }
  void End(S& t) const {  // what is not kept goes with its process
    if (n < kWriters && s.part[n] == THERE) t.part[n] = GONE;
    for (int m = 0; m < kManifests; m++)
      if (t.manifest[m] == THERE && t.owner[m] == n) t.manifest[m] = GONE;
  }
  void Die() {
    S t = s;
    t.deaths--;
    t.p[n].pc = DEAD;
    End(t);
    Out(t, "dies", s.p[n].pc, true);
  }
  // Certified: nothing of what it was about to do happens any more (F8).
  void GoOff() {
    S t = s;
    t.offs--, t.node[n] = OFF;
    if (t.p[n].pc != DONE) t.p[n].pc = DEAD;
    End(t);
    for (int m = 0; m < kManifests && !b_novoid; m++)
      if (t.manifest[m] == KEPT && t.owner[m] == n)
        t.manifest[m] = VOID, t.voided |= 1 << m;
    Out(t, "its node is declared off", 0, true);
  }
  void All() {
    for (n = 0; n < kProcesses; n++) {
      const Process& p = s.p[n];
      if (p.pc == IDLE) {
        S t = s;
        t.p[n].pc = n == ABORTER ? ABORT : MEET;
        t.p[n].aborting = n == ABORTER;
        if (n < kWriters) t.part[n] = THERE;
        if (n < kWriters && s.table != kNothing) {  // CheckBefore
          t.part[n] = GONE, t.p[n].pc = DONE, t.p[n].told = EXISTS;
          Out(t, "is told that the name is taken");
          continue;
        }
        // The meeter has something to do only while there is a list.
        if (n != MEETER || s.list.state) Out(t, "begins");
      }
      if (p.pc == DONE && n < kWriters && There(s, n) && p.told > TABLE) Withdraw();
      if (p.pc == DONE || (n == MEETER && p.pc == IDLE)) {
        S t = s;
        End(t);
        if (memcmp(&t, &s, sizeof t) != 0) Out(t, "its process ends");
      }
      Step();
      if (s.offs && n < kWriters && s.node[n] == UP && p.pc != IDLE) GoOff();
      if (n < kWriters && s.node[n] == OFF) {
        S t = s;
        t.node[n] = BACK;
        Out(t, "its node is back");
        continue;
      }
      if (s.deaths && n != MEETER && p.pc != IDLE && p.pc != DONE && p.pc != DEAD) Die();
    }
    n = MEETER;
    if (s.deadline && !s.late && s.list.state) {
      S t = s;
      t.late = 1;
      Out(t, "the deadline passes", 0, true);
    }
    if (s.puts && s.table == kNothing) {
      S t = s;
      t.puts--, t.table = kOther;
      Out(t, "another one puts a table of that name", 0, true);
    }
    if (s.removes && s.table != kNothing && (!remove_other || s.table == kOther)) {
      S t = s;
      t.removes--;
      if (s.table < kManifests) t.manifest[s.table] = GONE;
      t.table = kNothing;
      Out(t, "the table is removed", 0, true);
    }
  }
};

int main(int c, char** v) {
  Args a(c, v);
  strict = a.has("told"), as_told = a.has("astold");
  remove_other = a.has("removeother");
#define BUG(x) b_##x = a.has("bug=" #x)
  BUG(nokeep);
  BUG(blind);
  BUG(decidelate);
  BUG(aborterases);
  BUG(dropbound);
  BUG(remake);
  BUG(keepcandidate);
  BUG(novoid);
  BUG(forget);
  S s;
  memset(&s, 0, sizeof s);
  s.list = Model::Empty(), s.table = kNothing;
  s.deaths = a.num("deaths", 0), s.puts = a.num("puts", 0);
  s.removes = a.num("removes", 0), s.deadline = a.num("deadline", 0);
  s.offs = a.num("offs", 0);
  if (!a.num("aborts", 0)) s.p[ABORTER].pc = DONE;
  // Quiet: nothing is left but the table, or parts that wait in a list for others.
  return Check<Model>(a, s, [](const S& t) {
    for (int m = 0; m < kManifests; m++) {
      const bool waits = t.list.state == GATHERING && t.list.left & Model::ManifestBit(m);
      if (waits) continue;
      if (t.manifest[m] != NOWHERE && t.manifest[m] != BOUND && t.manifest[m] != GONE)
        return false;
    }
    if (t.list.state) {
      return t.list.state == GATHERING &&
             !(t.list.entries == 3 && Model::There(t, 0) && Model::There(t, 1));
    }
    return t.part[0] != KEPT && t.part[1] != KEPT;
  });
}
