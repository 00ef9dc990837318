package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/aadpool/aadpool/bench/results"
)

// measured are the modules whose versions matter for the results.
var measured = []string{
	"github.com/jackc/pgx/v5", "github.com/jackc/puddle/v2", "github.com/hashicorp/go-pgmultiauth",
	"github.com/Azure/azure-sdk-for-go/sdk/azcore", "github.com/Azure/azure-sdk-for-go/sdk/azidentity",
	"github.com/AzureAD/microsoft-authentication-library-for-go",
}

func environmentOf(db *database) results.Environment {
	e := results.Environment{
		Machine: fmt.Sprintf("%s, %d processors, %s; %s/%s", processor(), runtime.NumCPU(), memory(), runtime.GOOS,
			runtime.GOARCH),
		Programs: fmt.Sprintf("%s, PostgreSQL %s", runtime.Version(), db.version),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		versions := map[string]string{}
		for _, m := range info.Deps {
			versions[m.Path] = m.Version
		}
		var list []string
		for _, path := range measured {
			list = append(list, strings.TrimPrefix(path, "github.com/")+" "+versions[path])
		}
		e.Modules = strings.Join(list, ", ")
	}
	return e
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
