package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// measured are the modules whose versions matter for the results.
var measured = []string{
	"github.com/jackc/pgx/v5", "github.com/jackc/puddle/v2", "github.com/hashicorp/go-pgmultiauth",
	"github.com/Azure/azure-sdk-for-go/sdk/azcore", "github.com/Azure/azure-sdk-for-go/sdk/azidentity",
	"github.com/AzureAD/microsoft-authentication-library-for-go",
}

// introduction says what was measured where, and how to do it again.
func introduction(ctx context.Context, db *database, quick bool, took time.Duration) (string, error) {
	commit, err := commit(ctx)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b,
		"Written by `make bench` (`go run .` in this directory), which took %.0f minutes; nothing in it is written by "+
			"hand. It needs no Azure account, only Go and PostgreSQL's server programs.\n\n", took.Minutes())
	if quick {
		b.WriteString("**This was a quick run: the figures mean little.**\n\n")
	}
	fmt.Fprintf(&b,
		"- aadpool: commit %s, %s\n- machine: %s, %d processors, %s; %s/%s\n- %s, PostgreSQL %s, on the same machine\n",
		commit, time.Now().UTC().Format("2006-01-02"), processor(), runtime.NumCPU(), memory(), runtime.GOOS, runtime.GOARCH,
		runtime.Version(), db.version)
	if info, ok := debug.ReadBuildInfo(); ok {
		versions := map[string]string{}
		for _, m := range info.Deps {
			versions[m.Path] = m.Version
		}
		var list []string
		for _, path := range measured {
			list = append(list, strings.TrimPrefix(path, "github.com/")+" "+versions[path])
		}
		fmt.Fprintf(&b, "- %s\n", strings.Join(list, ", "))
	}
	b.WriteString("\nThe floor is plain pgxpool with a token as its fixed password: it does nothing about tokens. " +
		"azidentity is its client secret credential, called in BeforeConnect at each connect. " +
		"Speeds are measured against PostgreSQL itself, over TLS; what needs an Entra, and logins that check the tokens, " +
		"against the stand-ins of package aadpooltest in front of it. " +
		"All contestants take part in the same run, in turns or side by side.")
	return b.String(), nil
}

// commit is the repository's, and whether there are changes since.
func commit(ctx context.Context) (string, error) {
	id, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "", fmt.Errorf("asking git for the commit: %w", err)
	}
	changes, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no", "--", "..",
		":!.").Output()
	if err != nil {
		return "", fmt.Errorf("asking git for changes: %w", err)
	}
	text := string(bytes.TrimSpace(id))
	if len(bytes.TrimSpace(changes)) > 0 {
		text += " with changes"
	}
	return text, nil
}

func processor() string {
	if name := procField("/proc/cpuinfo", "model name"); name != "" {
		return name
	}
	return "processor unknown"
}

func memory() string {
	var kilobytes float64
	if _, err := fmt.Sscanf(procField("/proc/meminfo", "MemTotal"), "%f kB", &kilobytes); err != nil {
		return "memory unknown"
	}
	return fmt.Sprintf("%.0f GB", kilobytes/(1<<20))
}

// procField is the first field of that name in one of Linux's files of lines like "name: value". It is empty elsewhere.
func procField(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
