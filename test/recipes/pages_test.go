//go:build unix

// Package recipes runs docs/recipes: each recipe's own blocks, with the real program, against the stand-ins.
//
// make recipes installs the programs and runs them all. make test holds the pages and the table of runs together.
package recipes

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

const (
	root = "../.."
	dir  = root + "/docs/recipes"
)

// A recipe is a section of a page, below a heading with the program's name.
type recipe struct {
	page, program, text string
	blocks              []block
}

// A block is what a reader pastes: commands, where its language is sh, or else a file, whose name stands before it.
type block struct {
	language, file, code string
	line                 int
}

// commands are what is to be run of the block, in the shell.
func (b block) commands() string {
	switch {
	case b.language == "sh":
		return b.code
	case b.language == "yaml" && b.file != "":
		return pipelineCommands(b.code)
	}
	return ""
}

var (
	// pipelineStep is one of GitHub's, of Azure's, or of a list of GitLab's.
	pipelineStep     = regexp.MustCompile(`(?m)^ +(?:- run: |inlineScript: |- )([a-z(][\w-]* .+)$`)
	pipelineVariable = regexp.MustCompile(`(?m)^ +([A-Z_]+): ([^$\n]+)$`)
)

// pipelineCommands are those of a pipeline's file, in the environment that it sets. What the platform has set already
// stays.
func pipelineCommands(file string) (commands string) {
	if !pipelineStep.MatchString(file) {
		return ""
	}
	for _, found := range pipelineVariable.FindAllStringSubmatch(file, -1) {
		commands += "export " + found[1] + "=\"${" + found[1] + "-" + found[2] + "}\"\n"
	}
	for _, found := range pipelineStep.FindAllStringSubmatch(file, -1) {
		commands += found[1] + "\n"
	}
	return commands
}

// fileName ends the line before a block that is a file: `alembic.ini`:
var fileName = regexp.MustCompile("`([^`]+)`:$")

// readPage returns a page's recipes.
func readPage(t *testing.T, page string) (recipes []recipe) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, page))
	require.NoError(t, err)
	var open *block
	before := ""
	for i, line := range strings.Split(string(text), "\n") {
		program, isHeading := strings.CutPrefix(line, "## ")
		switch language, isFence := strings.CutPrefix(line, "```"); {
		case isFence && open == nil:
			open = &block{language: language, line: i + 2}
			if found := fileName.FindStringSubmatch(before); found != nil {
				open.file = found[1]
			}
		case isFence:
			last := &recipes[len(recipes)-1]
			last.blocks = append(last.blocks, *open)
			open = nil
		case open != nil:
			open.code += line + "\n"
		case isHeading:
			recipes = append(recipes, recipe{page: page, program: program})
		case len(recipes) > 0:
			recipes[len(recipes)-1].text += line + "\n"
		}
		if line != "" {
			before = line
		}
	}
	require.Nil(t, open, "%s has a block without an end", page)
	return recipes
}

func pages(t *testing.T) (names []string) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.md"))
	require.NoError(t, err)
	for _, path := range paths {
		if name := filepath.Base(path); name != "README.md" {
			names = append(names, name)
		}
	}
	require.NotEmpty(t, names)
	return names
}

func find(t *testing.T, page, program string) recipe {
	t.Helper()
	for _, r := range readPage(t, page) {
		if r.program == program {
			return r
		}
	}
	require.Fail(t, "no such recipe", "%s: ## %s", page, program)
	return recipe{}
}

// An entry is a row of the table in docs/recipes/README.md.
type entry struct{ program, page, way, version string }

const notRun = "not run here"

var entryLine = regexp.MustCompile(`^\| \[([^]]+)\]\(([\w-]+\.md)#[^)]+\) \| ([^|]+) \| ([^|]+) \|$`)

func entries(t *testing.T) (all []entry) {
	text, err := os.ReadFile(filepath.Join(dir, "README.md"))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if found := entryLine.FindStringSubmatch(strings.TrimSpace(line)); found != nil {
			all = append(all, entry{found[1], found[2], strings.TrimSpace(found[3]), strings.TrimSpace(found[4])})
		}
	}
	require.NotEmpty(t, all)
	return all
}

// What the table says was run is run by make recipes, and the other way round.
func TestEachRecipeThatSaysSoIsRun(t *testing.T) {
	inTable, isRun := map[string]bool{}, map[string]bool{}
	for _, r := range runs {
		isRun[r.page+" "+r.program] = true
	}
	for _, e := range entries(t) {
		name := e.page + " " + e.program
		assert.False(t, inTable[name], "%s stands in the table twice", name)
		inTable[name] = true
		assert.Equal(t, e.version != notRun, isRun[name], "%s is run: the table, and the row of runs", name)
		text := find(t, e.page, e.program).text
		assert.Equal(t, e.version == notRun, strings.Contains(text, "*Not run here.*"), "%s", name)
		if e.version == notRun {
			assert.Contains(t, text, "](https://", "%s: the program's own documentation", name)
		}
	}
	for _, page := range pages(t) {
		for _, r := range readPage(t, page) {
			assert.True(t, inTable[page+" "+r.program], "%s: %s is not in the table", page, r.program)
		}
	}
	assert.GreaterOrEqual(t, len(runs), 10)
}

// The versions of the table are those that make recipes installs.
func TestVersionsAreThoseThatAreInstalled(t *testing.T) {
	pins := pinned(t)
	for _, e := range entries(t) {
		if version, ok := pins[e.program]; ok && e.version != notRun {
			assert.Equal(t, version, e.version, e.program)
		}
	}
}

// pinned are the versions of the programs in Go, which scripts/recipes/go.txt has, and of those from npm, by the names
// of the table.
func pinned(t *testing.T) map[string]string {
	pins := map[string]string{}
	text, err := os.ReadFile(root + "/scripts/recipes/go.txt")
	require.NoError(t, err)
	for _, found := range regexp.MustCompile(`(?m)^(\S+) \S+@v(\S+)`).FindAllStringSubmatch(string(text), -1) {
		pins[found[1]] = found[2]
	}
	text, err = os.ReadFile(root + "/scripts/recipes/package.json")
	require.NoError(t, err)
	for _, found := range regexp.MustCompile(`"(\S+)": "(\d\S+)"`).FindAllStringSubmatch(string(text), -1) {
		pins[found[1]] = found[2]
	}
	for program, package_ := range map[string]string{"OpenFGA": "openfga", "Temporal schema": "temporal-sql-tool",
		"Temporal server": "temporal-server",
		"node-postgres":   "pg", "Sequelize": "sequelize", "Knex": "knex", "TypeORM": "typeorm", "Drizzle": "drizzle-orm",
		"Backstage":      "@backstage/backend-defaults",
		"golang-migrate": "migrate"} {
		if version, ok := pins[package_]; ok {
			pins[program] = version
		}
	}
	return pins
}
