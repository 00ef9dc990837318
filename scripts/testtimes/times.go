package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// An event is one line of go test -json, see go doc test2json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

func parseEvent(line []byte) (e event, ok bool) { return e, json.Unmarshal(line, &e) == nil }

// A measure is of a test, with those inside it, or of a package.
type measure struct {
	pkg, test      string // no test: the package
	took, computed time.Duration
}

// times are the measures of packages that are tested one after the other.
type times struct {
	done    []*measure
	pkg     *measure
	running []*measure // tests that have begun and not paused
	paused  []*measure // for their turn, as t.Parallel has them
	seen    time.Duration
	output  strings.Builder // of the package
}

// take takes in an event. What has been computed since the one before is shared by the tests that have run meanwhile.
func (t *times) take(e event, clock func() time.Duration) {
	if strings.Contains(e.Test, "/") { // the test around it counts
		e.Test = ""
		if e.Action != "output" {
			return
		}
	}
	switch e.Action {
	case "output":
		t.output.WriteString(e.Output)
		return
	case "start":
		t.pkg = &measure{pkg: e.Package}
		t.seen = clock()
		return
	}
	if t.pkg == nil {
		return // of a build
	}
	now := clock()
	t.share(now - t.seen)
	t.seen = now
	t.follow(e)
}

func (t *times) share(computed time.Duration) {
	t.pkg.computed += computed
	for _, m := range t.running {
		m.computed += computed / time.Duration(len(t.running))
	}
}

// follow notes what becomes of a test or package.
func (t *times) follow(e event) {
	switch e.Action {
	case "run":
		t.running = append(t.running, &measure{pkg: e.Package, test: e.Test})
	case "pause":
		t.paused = append(t.paused, remove(&t.running, e.Test))
	case "cont":
		t.running = append(t.running, remove(&t.paused, e.Test))
	case "pass", "fail", "skip":
		if e.Test == "" {
			t.endPackage(e)
			return
		}
		m := remove(&t.running, e.Test)
		m.took = seconds(e.Elapsed)
		t.done = append(t.done, m)
	}
}

func (t *times) endPackage(e event) {
	t.pkg.took = seconds(e.Elapsed)
	t.done = append(t.done, t.pkg)
	if e.Action == "fail" {
		fmt.Print(t.output.String())
	}
	fmt.Printf("%s\t%s\t%.1f s\n", e.Action, e.Package, e.Elapsed)
	t.pkg, t.running, t.paused = nil, nil, nil
	t.output.Reset()
}

// remove takes a test out of a list; one that is not in it has been lost by a binary that ended in the middle.
func remove(list *[]*measure, test string) *measure {
	for i, m := range *list {
		if m.test == test {
			*list = append((*list)[:i:i], (*list)[i+1:]...)
			return m
		}
	}
	return &measure{test: test}
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
