// Fault points of the client library.

#pragma once

#include <array>

#include "base/fault_info.h"

namespace sheaf {

/// In the order in which a session meets them, by kind of step.
inline constexpr auto kClientFaultPoints = std::to_array<FaultPointInfo>({
    // The session's messages to its daemon (client/call_points.h).
    {"client.hello.before-request", "Locked; the greeting is not sent."},
    {"client.hello.after-request", "The greeting is sent, the welcome not read."},
    {"client.hello.after-reply", "Welcomed; no lease page is noted."},
    {"client.lease-page.before-request", "All cells are taken; no page is asked for."},
    {"client.lease-page.after-request", "A lease page is asked for, no answer read."},
    {"client.lease-page.after-reply", "A lease page is ours; no cell of it is used."},
    {"client.grant.before-request", "Memory is short; no extent is asked for."},
    {"client.grant.after-request", "An extent is asked for, no answer read."},
    {"client.grant.after-reply", "An extent is ours; it is not writable yet."},
    {"client.seal.before-request", "Data is settled; the seal request is not sent."},
    {"client.seal.after-request", "The seal request is sent, no answer read."},
    {"client.seal.after-reply", "Sealed; the pool takes its granules for open still."},
    {"client.remote.before-request",
     "Something is wanted of another node's home; the daemon is not asked."},
    {"client.remote.after-request", "The daemon is asked to ask it, no answer read."},
    {"client.remote.after-reply", "The other home's answer is there, not used."},
    {"client.retire.before-request", "A remove or drop is decided, not sent."},
    {"client.retire.after-request", "A remove or drop is sent, no answer read."},
    {"client.retire.after-reply", "A remove or drop is answered."},
    {"client.keep.before-request", "An object is to be kept; the request is not sent."},
    {"client.keep.after-request", "The request to keep is sent, no answer read."},
    {"client.keep.after-reply", "The request to keep is answered."},
    {"client.return.before-request", "An extent is settled, not writable, not returned."},
    {"client.return.after-request", "A return is sent, no answer read."},
    {"client.return.after-reply", "A return is answered."},
    {"client.forget.before-request", "A node is to be forgotten; nobody is told (F8)."},
    {"client.forget.after-request", "The request to forget is sent, no answer read."},
    {"client.forget.after-reply", "The request to forget is answered."},
    {"client.reader-lease.before-request",
     "A reader of another user is to lease, and has not asked (L12)."},
    {"client.reader-lease.after-request", "A reader's lease is asked for, not told."},
    {"client.reader-lease.after-reply",
     "The cell of a reader's lease is told; the slot is not read (O2)."},
    {"client.reader-drop.before-request",
     "A reader knows no more of a lease; its daemon does (L12)."},
    {"client.reader-drop.after-request", "A reader's lease is let go, no answer read."},
    {"client.reader-drop.after-reply", "The request to let go is answered."},
    {"client.goodbye.before-request", "All is given back; the goodbye is not sent."},
    {"client.goodbye.after-request", "The goodbye is sent, no answer read."},
    {"client.goodbye.after-reply", "The session has ended; its memory is mapped still."},
    // What the session writes itself.
    {"client.hello.before-lock", "Connected; there is no lock of the session (D1)."},
    {"client.hello.after-lock", "The session's lock is held; no daemon knows of it."},
    {"client.grant.after-writable", "An extent is writable, not invalidated (P2)."},
    {"client.grant.after-invalidate", "An extent is invalidated; the pool has it not."},
    {"client.build.before-copy", "Before each run of private bytes is copied."},
    {"client.build.after-copy", "All private bytes are copied, none is flushed."},
    {"client.seal.before-flush", "The descriptor is made; no data is flushed (P3)."},
    {"client.seal.after-flush", "Data is flushed and fenced, not settled."},
    {"client.seal.after-settle", "Data is settled; the request is not built."},
    {"client.holder.before-seal",
     "Settled; bytes at another home than the table's are in no object there (O4)."},
    {"client.holder.after-seal", "A holder has them; the table is not sealed."},
    {"client.lease.before-cell", "An object is to be leased; no cell is written (O1)."},
    {"client.lease.after-cell", "A cell is written; the slot is not read again (O2)."},
    {"client.lease.after-check", "The lease holds; nobody knows of it yet."},
    {"client.lease.before-undo", "The slot was not as asked; its cell is not cleared."},
    {"client.lease.after-undo", "The cell of a lease that failed is cleared."},
    {"client.reference.before-settle", "A referred object is leased, not settled (O4)."},
    {"client.reference.after-settle", "The cell of a referred object is settled."},
    {"client.read.before-invalidate", "Leased; the data is not invalidated (O3)."},
    {"client.read.after-invalidate", "The data is invalidated, the note not set."},
    {"client.read.after-note", "The node's note is set; the table is not built."},
    {"client.lease.before-clear", "The last buffer died; its cell is not cleared (O6)."},
    {"client.lease.after-clear", "A cell is cleared, and the session goes on."},
    {"client.return.before-settle", "An extent is unused, not settled (L10)."},
    {"client.return.after-settle", "An extent is settled, and writable still."},
    {"client.goodbye.before-unlock", "All extents are returned; the lock is held."},
    // Tables in parts and barriers (client/staging.h): several requests one after the
    // other.
    {"client.part.before-bytes", "A part may be put; nothing of it is in the region."},
    {"client.part.after-bytes", "A part's bytes are an object that is in no list."},
    {"client.staging.before-store", "A list of parts is changed; it is not put."},
    {"client.staging.after-store", "The changed list is put; its object is not kept."},
    {"client.part.after-keep", "A part is in the list, and outlives its session."},
    {"client.part.before-table", "All parts are opened; the table is not put."},
    {"client.part.after-table", "The table is there; so are list and parts."},
    {"client.staging.before-drop", "A list is over; an object of it is not dropped."},
    {"client.staging.before-erase", "The objects of a list are dropped; it is there."},
    {"client.staging.after-erase", "A list is gone: a put is over, or a barrier open."},
    {"client.barrier.after-object", "An arrival is an object that is in no list."},
    {"client.barrier.after-arrival", "Arrived; others are missing."},
    {"client.barrier.before-withdraw", "Time is over; the arrival is in the list."},
});

}  // namespace sheaf
