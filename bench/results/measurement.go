package results

import (
	"path"
	"slices"
)

// The code that measurements measure, as Git's pathspecs.
var (
	// packagePaths are the package's, without its tests and what is only shared with other modules.
	packagePaths = []string{":(top,glob)*.go", ":(top)internal", ":(top,exclude,glob)**/*_test.go",
		":(top,exclude)internal/azuretest", ":(top,exclude)internal/signingkey",
		":(top,exclude)internal/credential", ":(top,exclude)internal/spelling", ":(top,exclude)internal/freeport",
		":(top,exclude)internal/leaktest"}
	proxyPaths = append(slices.Clone(packagePaths), ":(top)cmd/aadpool/internal/proxy",
		":(top)cmd/aadpool/go.mod")
	// commandPaths are those of aadpool token and of what answers it.
	commandPaths = []string{":(top)cmd/aadpool/internal/agent", ":(top)cmd/aadpool/internal/agentclient",
		":(top)cmd/aadpool/internal/early", ":(top)cmd/aadpool/internal/tokens",
		":(top)cmd/aadpool/internal/commands/commands.go", ":(top)cmd/aadpool/internal/commands/token.go",
		":(top,exclude,glob)**/*_test.go", ":(top)cmd/aadpool/go.mod"}
)

// A Measurement is one of those that are made and kept apart.
type Measurement struct {
	Name  string
	Paths []string // Git's pathspecs: what it measures
	Files []string // from the repository's top: how
}

// Measurements are all that there are, in the order of the pages.
var Measurements = []Measurement{
	measurement("steady", packagePaths, "steady.go", "rounds.go"),
	measurement("acquire", packagePaths, "steady.go", "rounds.go"),
	measurement("hook", packagePaths, "connect.go", "rounds.go"),
	measurement("connect", packagePaths, "connect.go", "rounds.go"),
	measurement("cold", packagePaths, "connect.go"),
	measurement("rotation", packagePaths, "rotation.go"),
	measurement("outage", packagePaths, "outage.go"),
	measurement("oldest", packagePaths, "lifetime.go"),
	measurement("expiry", packagePaths, "lifetime.go"),
	measurement("replacement", packagePaths, "replacement.go"),
	measurement("memory", packagePaths, "memory.go"),
	measurement("pools", packagePaths, "memory.go"),
	measurement("proxy", proxyPaths, "proxy.go", "proxy_ways.go"),
	measurement("proxyconnects", proxyPaths, "proxy.go", "proxy_ways.go"),
	measurement("proxyresult", proxyPaths, "proxy_result.go", "proxy_ways.go"),
	measurement("proxyidle", proxyPaths, "proxy_idle.go"),
	measurement("pooling", proxyPaths, "pooling.go", "proxy.go", "proxy_ways.go",
		"../deploy/helm/aadpool/files/pgbouncer.ini"),
	measurement("passwordcommand", commandPaths, "passwordcommand.go", "proxy_ways.go"),
	measurement("fleet", packagePaths, "fleet.go", "../fleet_test.go"),
}

// measurement is one that is made by files of the directory bench, beside those that all share.
func measurement(name string, paths []string, files ...string) Measurement {
	m := Measurement{Name: name, Paths: paths}
	for _, file := range append(files, "go.mod", "contestant.go", "database.go") {
		m.Files = append(m.Files, ":(top)"+path.Join("bench", file))
	}
	return m
}

// Of is the measurement of that name, which there is.
func Of(name string) Measurement {
	return Measurements[slices.IndexFunc(Measurements, func(m Measurement) bool { return m.Name == name })]
}
