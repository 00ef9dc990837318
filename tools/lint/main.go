// Command lint has the checks of go vet and of staticcheck in one program, with staticcheck's flags:
//
//	lint ./...
//
// Each of the two alone reads all that a package depends on, down to the standard library; together they read it once.
package main

import (
	"os"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/suite/vet"
	"honnef.co/go/tools/analysis/lint"
	"honnef.co/go/tools/lintcmd"
	"honnef.co/go/tools/lintcmd/version"
	"honnef.co/go/tools/simple"
	"honnef.co/go/tools/staticcheck"
	"honnef.co/go/tools/stylecheck"
	"honnef.co/go/tools/unused"
)

func main() {
	checks := slices.Concat(simple.Analyzers, staticcheck.Analyzers, stylecheck.Analyzers,
		[]*lint.Analyzer{unused.Analyzer})
	for _, check := range checks {
		skipOthersCode(check.Analyzer)
	}
	command := lintcmd.NewCommand("lint")
	command.SetVersion(version.Version, version.MachineVersion)
	command.ParseFlags(os.Args[1:])
	command.AddAnalyzers(checks...)
	command.AddBareAnalyzers(vet.Suite...)
	command.Run()
}

const intermediate = "buildir" // staticcheck's intermediate code of a package

var skipping = map[*analysis.Analyzer]bool{}

// skipOthersCode has an analyzer, and those that it needs, make no intermediate code of other people's packages, which
// takes longer than all else. What they say of themselves without it is known: what is deprecated, what never returns,
// what prints. Not known is which of their functions have no effect and which never return nil.
func skipOthersCode(analyzer *analysis.Analyzer) {
	if skipping[analyzer] {
		return
	}
	skipping[analyzer] = true
	needsIntermediate := false
	for _, required := range analyzer.Requires {
		skipOthersCode(required)
		needsIntermediate = needsIntermediate || required.Name == intermediate
	}
	if analyzer.Name != intermediate && !(needsIntermediate && len(analyzer.FactTypes) > 0) {
		return // not run on others' packages, or without their code
	}
	run := analyzer.Run
	analyzer.Run = func(pass *analysis.Pass) (any, error) {
		if wanted(pass.Pkg.Path()) {
			return run(pass)
		}
		if analyzer.ResultType == nil {
			return nil, nil
		}
		return reflect.Zero(analyzer.ResultType).Interface(), nil
	}
}

// wanted reports whether the code of a package is: ours, and what staticcheck lists functions without effect for.
func wanted(path string) bool {
	return strings.HasPrefix(path, "github.com/aadpool/") ||
		slices.Contains([]string{"errors", "fmt", "net/http", "sort", "strings", "time"}, path)
}
