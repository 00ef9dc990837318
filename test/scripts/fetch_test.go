//go:build unix

package scripts

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What make clients and make recipes run comes from a directory below /tmp, where everybody can make one first.
func TestClientsAreNotTakenFromSomebodyElsesDirectory(t *testing.T) {
	for _, row := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		refused bool
	}{
		{"none is there yet", func(*testing.T, string) {}, false},
		{"an own one", func(t *testing.T, dir string) { require.NoError(t, os.Mkdir(dir, 0o755)) }, false},
		{"another user's", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(dir, 0o755))
			if os.Geteuid() != 0 {
				t.Skip("only root can give a directory away")
			}
			require.NoError(t, os.Chown(dir, 4242, 4242))
		}, true},
		{"one that everybody can write to", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(dir, 0o755))
			require.NoError(t, os.Chmod(dir, 0o777))
		}, true},
		{"one that a group can write to", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(dir, 0o755))
			require.NoError(t, os.Chmod(dir, 0o775))
		}, true},
		{"a link", func(t *testing.T, dir string) { require.NoError(t, os.Symlink(t.TempDir(), dir)) }, true},
		{"a file", func(t *testing.T, dir string) { require.NoError(t, os.WriteFile(dir, nil, 0o600)) }, true},
	} {
		for _, script := range []string{"install-proxy-clients.sh", "install-recipes.sh"} {
			t.Run(script+": "+row.name, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "clients")
				row.prepare(t, dir)
				assertTaken(t, script, dir, !row.refused)
			})
		}
	}
}

// assertTaken runs a script that installs into a directory. The first program that it would have do something says that
// it came so far.
func assertTaken(t *testing.T, script, dir string, taken bool) {
	bin, called := t.TempDir(), filepath.Join(filepath.Dir(dir), "called")
	for _, name := range []string{"apt-get", "dpkg", "go", "npm", "tar"} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n: >"+called+"\nexit 1\n"), 0o700))
	}
	cmd := exec.Command("../../scripts/"+script, dir)
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	require.Error(t, err, "the programs here do nothing")
	if taken {
		assert.FileExists(t, called, "%s", out)
	} else {
		assert.NoFileExists(t, called)
		assert.Contains(t, string(out), dir+" is not a directory that this user alone can write to")
	}
}

// npm's packages are those that were looked at: each by its version and the hash of its content, and without the
// scripts that they bring.
func TestPackagesOfNPMArePinned(t *testing.T) {
	out, err := exec.Command("git", "-C", "../..", "ls-files").Output()
	if err != nil {
		t.Skip("this is no checkout: ", err)
	}
	files := strings.Fields(string(out))
	manifests := 0
	for _, file := range files {
		path := filepath.Join("../..", file)
		switch {
		case filepath.Base(file) == "package.json":
			manifests++
			assertLocked(t, filepath.Dir(path))
		case strings.HasSuffix(file, ".sh"), strings.HasSuffix(file, "_test.go") && !strings.HasPrefix(file, "test/scripts/"):
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.NotRegexp(t, `npm"?,? "?install`, string(text), "%s: npm ci heeds the lock file", file)
			for _, call := range regexp.MustCompile(`(?m)^.*\bnpm"?,? "?(ci|pack)\b.*$`).FindAllString(string(text), -1) {
				assert.Contains(t, call, "--ignore-scripts", file)
			}
			assert.NotContains(t, string(text), "hydrate", "%s: a script of a package", file)
		}
	}
	assert.GreaterOrEqual(t, manifests, 2)
}

func assertLocked(t *testing.T, dir string) {
	text, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	require.NoError(t, err)
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	require.NoError(t, json.Unmarshal(text, &lock))
	require.Greater(t, len(lock.Packages), 1)
	for name, p := range lock.Packages {
		if name != "" { // the manifest itself
			assert.NotEmpty(t, p.Version, name)
			assert.Regexp(t, `^sha512-[A-Za-z0-9+/]{86}==$`, p.Integrity, name)
		}
	}
}

// A package of PostgreSQL that is not the one that was looked at is neither unpacked nor run.
func TestPostgreSQLOfAnotherContentIsRefused(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not on PATH")
	}
	list, err := os.ReadFile("../../scripts/embedded-postgres.txt")
	require.NoError(t, err)
	version := regexp.MustCompile(`(?m)^linux-x64 (\S+)`).FindSubmatch(list)
	require.NotNil(t, version)
	bin := t.TempDir()
	// It says what npm pack says: the name of the file that it has fetched.
	npm := `#!/bin/sh
[ "$1" = pack ] || exit 1
mkdir package && echo 'touch "$(dirname "$0")/was-run"' >package/run && tar czf fetched.tgz package && rm -r package && echo fetched.tgz
`
	require.NoError(t, os.WriteFile(filepath.Join(bin, "npm"), []byte(npm), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(bin, "uname"),
		[]byte("#!/bin/sh\n[ \"$1\" = -s ] && echo Linux || echo x86_64\n"), 0o700))
	for name, row := range map[string]struct{ version, want string }{
		"another content":  {string(version[1]), "is not the one that scripts/embedded-postgres.txt names"},
		"another version":  {"99.1.0", "scripts/embedded-postgres.txt has no package"},
		"a version of sed": {".*", "scripts/embedded-postgres.txt has no package"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "postgresql")
			cmd := exec.Command("../../scripts/fetch-postgresql.sh", dir, row.version)
			cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			require.Error(t, err, "%s", out)
			assert.Contains(t, string(out), row.want)
			left, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
			assert.Empty(t, left, "nothing of it")
		})
	}
}
