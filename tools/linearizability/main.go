// Is a recorded history of names linearizable? Porcupine decides; this program only says what
// a name is: a register that holds a table, or none.
//
//	checker <history> [<seconds>]
//
// One operation a line, separated by spaces: client, operation (put, replace, swap, remove,
// get, stat), name, value, begin and end in nanoseconds of one clock, outcome, the version
// that a swap expects, the version that a put made or a stat found (0: none). Values are
// positive and each is put once; a get's is what it found, 0 if nothing. Outcomes: "ok";
// "exists" (a put that found a table); "absent" (a remove, get or stat that found none);
// "mismatch" (a swap that found another version, or none); "unknown" (an error, or the
// client died: it may take effect at any time from its begin on, or never).
//
// Three answers say less than they seem to: "exists" is also told of a name that is being
// put, and "mismatch" of one that is being put or removed, so that one which overlaps such
// says nothing (also where the other was refused in the end: one leader may have granted it,
// and the next one not); and a remove that was repeated because a daemon died is "ok" also
// if somebody else removed the table meanwhile.
// Exit code 0 if it is, 1 if not, 2 if it cannot be said.
package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/anishathalye/porcupine"
)

type input struct {
	operation string
	name      string
	value     int64
	outcome   string
	expected  int64
	version   int64
}

// What a name is: the value that it leads to, 0 if none; its version; and the highest version
// that it is known to have had. A version of a put whose outcome is not known is not known
// either until somebody is told it: it is above the highest.
type register struct {
	value   int64
	version int64
	highest int64
}

const unknownVersion = -1

// A put of any kind: versions rise, also over removals.
func (now register) put(op input) (bool, interface{}) {
	if op.outcome == "unknown" {
		return true, register{op.value, unknownVersion, now.highest}
	}
	return op.version > now.highest, register{op.value, op.version, op.version}
}

// The same, when somebody was told that this is its version.
func (now register) seen(version int64) (bool, register) {
	if now.version == unknownVersion {
		return version > now.highest, register{now.value, version, version}
	}
	return now.version == version, now
}

func step(state, in, _ interface{}) (bool, interface{}) {
	now := state.(register)
	op := in.(input)
	isUnknown := op.outcome == "unknown"
	switch op.operation {
	case "put":
		if op.outcome == "exists" {
			return now.value != 0, now
		}
		if now.value == 0 {
			return now.put(op)
		}
		return isUnknown, now
	case "replace":
		return now.put(op)
	case "swap":
		isThere, known := now.seen(op.expected)
		isThere = isThere && now.value != 0
		if op.outcome == "mismatch" {
			return !isThere || now.version == unknownVersion, now
		}
		if !isThere {
			return isUnknown, now
		}
		return known.put(op)
	case "remove":
		if op.outcome == "absent" {
			return now.value == 0, now
		}
		return true, register{0, 0, now.highest}
	case "undo": // of a put whose outcome is not known: it may have been seen for a moment
		if now.value == op.value {
			return true, register{0, 0, now.highest}
		}
		return true, now
	case "stat":
		if op.outcome == "absent" {
			return now.value == 0, now
		}
		isIt, known := now.seen(op.version)
		return isIt && now.value != 0, known
	default:
		return now.value == op.value, now
	}
}

func describe(in, _ interface{}) string {
	op := in.(input)
	return fmt.Sprintf("%s(%s, %d, %d) -> %s %d", op.operation, op.name, op.value, op.expected,
		op.outcome, op.version)
}

// Each name is a register of its own.
func partition(history []porcupine.Operation) [][]porcupine.Operation {
	byName := map[string][]porcupine.Operation{}
	for _, op := range history {
		name := op.Input.(input).name
		byName[name] = append(byName[name], op)
	}
	var parts [][]porcupine.Operation
	for _, part := range byName {
		parts = append(parts, part)
	}
	return parts
}

func fail(format string, arguments ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(2)
}

func read(path string) []porcupine.Operation {
	file, err := os.Open(path)
	if err != nil {
		fail("%v", err)
	}
	defer file.Close()
	var history []porcupine.Operation
	nextClient := 1 << 20 // of what may take effect after its client went on
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var client int
		var op input
		var begin, end int64
		_, err := fmt.Sscan(lines.Text(), &client, &op.operation, &op.name, &op.value, &begin,
			&end, &op.outcome, &op.expected, &op.version)
		if err != nil {
			fail("'%s': %v", lines.Text(), err)
		}
		if op.outcome == "unknown" {
			if op.operation == "get" || op.operation == "stat" {
				continue
			}
			end = math.MaxInt64
			client, nextClient = nextClient, nextClient+1
		}
		history = append(history, porcupine.Operation{
			ClientId: client, Input: op, Call: begin, Return: end})
		if op.outcome == "unknown" && op.operation == "put" {
			undo := op
			undo.operation = "undo"
			history = append(history, porcupine.Operation{
				ClientId: nextClient, Input: undo, Call: begin, Return: end})
			nextClient++
		}
	}
	if err := lines.Err(); err != nil {
		fail("%v", err)
	}
	return withoutReserved(history)
}

// No change of leader takes less: what was refused sooner was never granted.
const leaderChange = 50 * time.Millisecond

// Leaves out each "exists" and "mismatch" while another change of the name was under way.
func withoutReserved(history []porcupine.Operation) []porcupine.Operation {
	type span struct{ begin, end int64 }
	puts := map[string][]span{}
	for _, op := range history {
		in := op.Input.(input)
		isRefused := in.outcome == "exists" || in.outcome == "mismatch"
		isChange := in.operation != "get" && in.operation != "stat" && in.outcome != "absent"
		if isRefused {
			isChange = op.Return-op.Call >= leaderChange.Nanoseconds()
		}
		if isChange {
			puts[in.name] = append(puts[in.name], span{op.Call, op.Return})
		}
	}
	kept := history[:0]
	for _, op := range history {
		in := op.Input.(input)
		isReserved := false
		if in.outcome == "exists" || in.outcome == "mismatch" {
			for _, other := range puts[in.name] {
				isItself := other == span{op.Call, op.Return}
				isReserved = isReserved || !isItself && other.begin < op.Return && op.Call < other.end
			}
		}
		if !isReserved {
			kept = append(kept, op)
		}
	}
	return kept
}

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fail("usage: checker <history> [<seconds>]")
	}
	seconds := 120
	if len(os.Args) == 3 {
		var err error
		if seconds, err = strconv.Atoi(os.Args[2]); err != nil {
			fail("%v", err)
		}
	}
	model := porcupine.Model{
		Init:              func() interface{} { return register{} },
		Step:              step,
		Partition:         partition,
		DescribeOperation: describe,
	}
	history := read(os.Args[1])
	result, info := porcupine.CheckOperationsVerbose(
		model, history, time.Duration(seconds)*time.Second)
	switch result {
	case porcupine.Ok:
		fmt.Printf("%d operations are linearizable\n", len(history))
	case porcupine.Illegal:
		page := os.Args[1] + ".html"
		if out, err := os.Create(page); err == nil {
			if porcupine.Visualize(model, info, out) == nil {
				fmt.Printf("see %s\n", page)
			}
			out.Close()
		}
		fmt.Printf("%d operations are not linearizable\n", len(history))
		os.Exit(1)
	default:
		fmt.Printf("%d operations: not decided in %d s\n", len(history), seconds)
		os.Exit(2)
	}
}
