package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// onOneProcessor runs f with this process and the server's new ones on one processor, and reports whether it could:
// that takes Linux's taskset. With one goroutine only one of client and server runs at a time. On two processors each
// call then has two of them wake up, which on a virtual machine takes longer than the call, or not, as it happens.
func (b *bench) onOneProcessor(ctx context.Context, f func() error) (confined bool, err error) {
	if _, err := exec.LookPath("taskset"); err != nil {
		return false, f()
	}
	server, err := b.db.processID(ctx)
	if err != nil {
		return false, err
	}
	pids := []int{os.Getpid(), server}
	processors, err := affinity(ctx, os.Getpid())
	if err != nil {
		return false, err
	}
	defer func() {
		for _, pid := range pids {
			err = errors.Join(err, setAffinity(context.WithoutCancel(ctx), pid, processors))
		}
	}()
	first, _, _ := strings.Cut(processors, ",")
	first, _, _ = strings.Cut(first, "-")
	for _, pid := range pids {
		if err := setAffinity(ctx, pid, first); err != nil {
			return false, err
		}
	}
	return true, f()
}

// affinity lists the processors that a process may run on, as in "0-3,8".
func affinity(ctx context.Context, pid int) (string, error) {
	out, err := exec.CommandContext(ctx, "taskset", "-c", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return "", fmt.Errorf("asking taskset for a process's processors: %w", err)
	}
	_, list, ok := strings.Cut(string(out), ": ")
	if !ok {
		return "", fmt.Errorf("taskset says %q, not which processors", out)
	}
	return strings.TrimSpace(list), nil
}

// setAffinity has all threads of a process, and those that they start, run on some processors only.
func setAffinity(ctx context.Context, pid int, processors string) error {
	if err := exec.CommandContext(ctx, "taskset", "-a", "-c", "-p", processors, strconv.Itoa(pid)).Run(); err != nil {
		return fmt.Errorf("having a process run on processor %s: %w", processors, err)
	}
	return nil
}

// processID is that of the process which starts one for each connection.
func (db *database) processID(ctx context.Context) (pid int, err error) {
	err = db.administer(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `select split_part(pg_read_file('postmaster.pid'), e'\n', 1)::int`).Scan(&pid)
	})
	return pid, err
}
