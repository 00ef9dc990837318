package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// tick is the unit of the times in /proc: Linux has 100 a second on every processor that Go runs on.
const tick = time.Second / 100

// computed returns the processor time of a process and of all that it and its descendants have started: servers and
// the commands under test, too.
func computed(root int) time.Duration {
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the only error is a malformed pattern
	parents, used := map[int]int{}, map[int]time.Duration{}
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parents[pid], used[pid] = parseStat(stat)
	}
	var sum time.Duration
	for pid := range parents {
		for at := pid; at > 1; at = parents[at] {
			if at == root {
				sum += used[pid]
				break
			}
		}
	}
	return sum
}

// parseStat reads the parent, and the processor time with that of children that have ended: see proc_pid_stat(5).
func parseStat(stat []byte) (parent int, used time.Duration) {
	var state string
	var skip, user, system, childrenUser, childrenSystem int64
	fields := stat[bytes.LastIndexByte(stat, ')')+1:] // the name before may have spaces
	_, err := fmt.Sscan(string(fields), &state, &parent, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip,
		&user, &system, &childrenUser, &childrenSystem)
	if err != nil {
		return 0, 0
	}
	return parent, time.Duration(user+system+childrenUser+childrenSystem) * tick
}
