//go:build unix

package docs_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/freeport"
)

// pasteTimeout is when a block counts as one that blocks the reader's terminal.
const pasteTimeout = 5 * time.Minute

// pastedPages are read in this order, each beside a clone and a module of its own.
var pastedPages = []string{"README.md", "docs/*.md", "otelaadpool/README.md", "cmd/aadpool/README.md",
	"deploy/README.md"}

// wherePasted is the directory of the pages whose reader is in the clone, or in the service, already.
var wherePasted = map[string]string{
	"docs/database-sql.md": "your-service", "otelaadpool/README.md": "your-service", "docs/standins.md": "aadpool",
	"docs/testing.md": "aadpool", "docs/azure-setup.md": "aadpool", "deploy/README.md": "aadpool",
}

// elsewhere are lines that need what a test cannot have, and why that is no loss.
var elsewhere = map[string]string{
	"docker ":             "an image is built by CI alone",
	"az login":            "there is no Azure",
	"first-login.sh":      "the tests of deploy run it with an az of their own",
	"aadpool login":       "needs a browser: tests of the command have one",
	"java ":               "TestClientsOfOtherLanguages runs it",
	"kill -TERM \"$old\"": "tests of the command restart proxies",
	"make clients":        "takes half an hour",
}

// readersPrograms are what the pages run that is the reader's own. Each makes a query as it finds itself told to.
var readersPrograms = []string{"python", "python3", "npm", "goose"}

func TestPagesArePasted(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the command and runs each page: long by its nature")
	}
	r := newReader(t)
	for _, pattern := range pastedPages {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, path := range paths {
			page, err := filepath.Rel(root, path)
			require.NoError(t, err)
			page = filepath.ToSlash(page)
			t.Run(page, func(t *testing.T) { r.paste(t, page, cmp.Or(wherePasted[page], ".")) })
		}
	}
}

// A reader has a home of their own, a clone, and stand-ins for Azure in the environment.
type reader struct {
	azure             azuretest.Azure
	home, clone, bin  string
	environment       map[string]string
	host, port, roots string
	identities        map[string]map[string]string
}

func newReader(t *testing.T) *reader {
	azure := azuretest.New(t)
	r := &reader{azure: azure, home: t.TempDir(), clone: filepath.Join(t.TempDir(), "aadpool"), bin: t.TempDir()}
	copyCheckout(t, r.clone)
	r.identities = r.register()
	r.mapRole(t, "orders-api")
	dsn, err := azure.Server.CreateDatabase(t.Context(), "orders", "orders-api")
	require.NoError(t, err)
	r.host, r.port, err = net.SplitHostPort(azure.Server.Addr())
	require.NoError(t, err)
	r.roots = regexp.MustCompile(`sslrootcert=([^&]+)`).FindStringSubmatch(dsn)[1]
	r.roots = strings.ReplaceAll(r.roots, "%2F", "/")
	for _, program := range readersPrograms {
		r.addProgram(t, program, "export PGPASSWORD=\"${PGPASSWORD-$(aadpool token)}\"; exec psql -Atc 'select 1'")
	}
	r.addProgram(t, "git", `test "$1" = clone || { echo "git: no network" >&2; exit 128; }; `+
		`test ! -L aadpool || rm aadpool; exec cp -r "$CLONE" aadpool`)
	r.environment = r.surroundings(t, dsn)
	s := &session{reader: r, pwd: filepath.Join(r.clone, "cmd/aadpool")}
	out, err := s.bash(t, "go install .", false)
	require.NoError(t, err, "%s", out)
	return r
}

// register has the variables of each principal, by a word of the commands that it runs; the others are the service's.
func (r *reader) register() map[string]map[string]string {
	r.azure.Authority.Register(aadpooltest.Principal{Name: "orders-migrations"})
	identities := map[string]map[string]string{"": r.azure.Authority.ClientSecretEnv(r.azure.App)}
	for word, p := range map[string]aadpooltest.Principal{
		"admin@contoso.com": {Name: "admin@contoso.com", Administrator: true},
		"dev%40contoso.com": {Name: "dev@contoso.com"},
		"ada%40example.com": {Name: "ada@example.com"},
	} {
		identities[word] = r.azure.Authority.ClientSecretEnv(r.azure.Authority.Register(p))
	}
	return identities
}

// mapRole makes a role as an administrator does.
func (r *reader) mapRole(t *testing.T, role string) {
	const administrator = "admin@contoso.com"
	config, err := pgx.ParseConfig(r.azure.Server.DSN(administrator))
	require.NoError(t, err)
	config.Password, err = r.azure.Authority.Issue(administrator)
	require.NoError(t, err)
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "select pgaadauth_create_principal($1, false, false)", role)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

func (r *reader) addProgram(t *testing.T, name, script string) {
	require.NoError(t, os.WriteFile(filepath.Join(r.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
}

// copyCheckout copies what git has or would add.
func copyCheckout(t *testing.T, to string) {
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	names, err := list.Output()
	require.NoError(t, err)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		from := filepath.Join(root, name)
		info, err := os.Stat(from)
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not committed yet
		}
		require.NoError(t, err)
		content, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(to, name), content, info.Mode().Perm()))
	}
}

// surroundings are the reader's environment: nothing of this process's but what finds programs, and no XDG_RUNTIME_DIR.
// Modules come from the cache of this machine; what is not there is asked for in vain.
func (r *reader) surroundings(t *testing.T, dsn string) map[string]string {
	cache := goEnv(t, "GOMODCACHE")
	trust, err := r.azure.Authority.TrustEnv(t.TempDir())
	require.NoError(t, err)
	env := map[string]string{
		"HOME": r.home, "PATH": r.bin + ":" + os.Getenv("PATH"), "USER": os.Getenv("USER"), "CLONE": r.clone, "DSN": dsn,
		"DATABASE_URL": dsn, "AADPOOL_DISABLE_INSTANCE_DISCOVERY": "true",
		"AADPOOL_TEST_DATABASE": os.Getenv("AADPOOL_TEST_DATABASE"),
		"GOMODCACHE":            cache, "GOCACHE": goEnv(t, "GOCACHE"),
		"GOPROXY": "file://" + cache + "/cache/download,direct",
		"GOSUMDB": "off", "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local", "PAGER": "cat",
	}
	maps.Copy(env, trust)
	return env
}

func goEnv(t *testing.T, name string) string {
	value, err := exec.Command("go", "env", name).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(value))
}

// paste runs a page's blocks of the shell, one after the other, and ends what they have left running.
func (r *reader) paste(t *testing.T, page, where string) {
	work := t.TempDir()
	service := filepath.Join(work, "your-service")
	require.NoError(t, os.Mkdir(service, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(service, "go.mod"), []byte("module your-service\n\ngo 1.26\n"), 0o644))
	s := &session{reader: r, page: page, pwd: filepath.Join(work, where), ports: map[string]string{}}
	if page == "README.md" {
		s.home = t.TempDir() // in which nothing is installed yet
	} else {
		s.clone(t, work)
	}
	blocks := 0
	for _, b := range shellBlocks(t, page) {
		if why := needsMore(b.code); why != "" {
			t.Logf("%s:%d is not run: %s", page, b.line, why)
			continue
		}
		blocks++
		s.run(t, b)
	}
	t.Logf("%d blocks", blocks)
	s.compile(t, service)
}

// needsMore is why a block cannot be run here. A comment does not count.
func needsMore(code string) string {
	for word, why := range elsewhere {
		for line := range strings.Lines(code) {
			line, _, _ = strings.Cut(line, "#")
			if strings.Contains(line, word) {
				return why
			}
		}
	}
	return ""
}

// shellBlocks are those of a page that are marked as the shell's.
func shellBlocks(t *testing.T, page string) (blocks []snippet) {
	var open *snippet
	for _, line := range linesOf(t, page) {
		fence := strings.TrimSpace(line.text)
		switch {
		case line.code && open != nil && fence == "```":
			blocks, open = append(blocks, *open), nil
		case line.code && open == nil && fence == "```sh":
			open = &snippet{page: page, line: line.number + 1}
		case open != nil:
			open.code += line.text + "\n"
		}
	}
	return blocks
}

// A session is a reader's way through one page.
type session struct {
	*reader
	page, pwd string
	home      string            // the reader's, or one of its own
	path      string            // once a block has changed it
	ports     map[string]string // of the page's, to free ones
}

// clone does what the README has told to do before.
func (s *session) clone(t *testing.T, work string) {
	require.NoError(t, os.Symlink(s.reader.clone, filepath.Join(work, "aadpool")))
	for _, b := range shellBlocks(t, "README.md") {
		if _, replace, ok := strings.Cut(b.code, "go mod edit "); ok {
			replace, _, _ = strings.Cut(replace, "\ngo get")
			s.bash(t, "cd '"+work+"/your-service' && go mod edit "+replace, false)
		}
	}
	s.path = s.environment["PATH"] + ":" + filepath.Join(s.reader.home, "go/bin")
}

var port = regexp.MustCompile(`\b(?:127\.0\.0\.1:|control-port )(\d+)`)

// here is the code with what stands in the place of Azure's server and of ports that may be taken.
func (s *session) here(t *testing.T, code string) string {
	code = port.ReplaceAllStringFunc(code, func(found string) string {
		number := port.FindStringSubmatch(found)[1]
		if s.ports[number] == "" {
			_, s.ports[number], _ = net.SplitHostPort(freeport.For(t))
		}
		return strings.TrimSuffix(found, number) + s.ports[number]
	})
	server := regexp.MustCompile(`(postgres(?:ql)?://[^@\s]+@)orders\.postgres\.database\.azure\.com(/\w*)`)
	code = server.ReplaceAllString(code,
		"'${1}"+net.JoinHostPort(s.host, s.port)+"${2}?sslmode=verify-full&sslrootcert="+s.roots+"'")
	code = strings.ReplaceAll(code, "host=orders.postgres.database.azure.com",
		fmt.Sprintf("host=%s port=%s sslrootcert=%s", s.host, s.port, s.roots))
	return strings.ReplaceAll(code, " sslrootcert=system", "")
}

// run runs a block as one script that stops at the first line that fails. A proxy serves until it is told to end: it
// stands last in its block, since it has the terminal, and says how to connect from another.
func (s *session) run(t *testing.T, b snippet) {
	code := s.here(t, b.code)
	head, serving := s.cutServing(code)
	require.NotContains(t, strings.TrimSpace(strings.TrimPrefix(serving, "aadpool proxy")), "\n",
		"%s:%d: what stands below a proxy that serves is never run", b.page, b.line)
	if head != "" {
		out, err := s.bash(t, head, true)
		require.NoError(t, err, "%s:%d:\n%s\n%s", b.page, b.line, code, out)
	}
	if serving != "" {
		s.serve(t, b, serving)
	}
}

// cutServing splits a block before a proxy without a command.
func (s *session) cutServing(code string) (head, serving string) {
	for line := range strings.Lines(code) {
		if serving != "" || strings.HasPrefix(line, "aadpool proxy ") && !strings.Contains(line, " -- ") &&
			!strings.HasSuffix(strings.TrimSpace(line), "&") {
			serving += line
		} else {
			head += line
		}
	}
	return head, serving
}

func (s *session) env(code string) (env []string) {
	identity := s.identities[""]
	for word, other := range s.identities {
		if word != "" && strings.Contains(code, word) {
			identity = other
		}
	}
	all := maps.Clone(s.environment)
	maps.Copy(all, identity)
	if s.path != "" {
		all["PATH"] = s.path
	}
	if s.home != "" {
		all["HOME"] = s.home
	}
	for name, value := range all {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env
}

// bash runs code where the last block has left off. What it starts in the background is ended with the page.
func (s *session) bash(t *testing.T, code string, remember bool) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), pasteTimeout)
	defer cancel()
	state := filepath.Join(t.TempDir(), "state")
	shell := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c",
		"trap 'pwd >\"$STATE\"; echo \"$PATH\" >>\"$STATE\"' EXIT\n"+code)
	shell.Dir, shell.Env = s.pwd, append(s.env(code), "STATE="+state)
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	shell.Cancel = func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) }
	output, err := os.CreateTemp(t.TempDir(), "output")
	require.NoError(t, err)
	defer output.Close()
	shell.Stdout, shell.Stderr = output, output
	require.NoError(t, shell.Start())
	t.Cleanup(func() { _ = syscall.Kill(-shell.Process.Pid, syscall.SIGTERM) })
	err = shell.Wait()
	if ctx.Err() != nil {
		err = fmt.Errorf("it blocks the terminal: %w", err)
	}
	text, _ := os.ReadFile(output.Name())
	if now, readErr := os.ReadFile(state); readErr == nil && remember {
		pwd, path, _ := strings.Cut(strings.TrimSpace(string(now)), "\n")
		s.pwd, s.path = pwd, path
	}
	s.awaitPorts(t, code)
	return string(text), err
}

// awaitPorts waits for what a block has left running, as the reader does who reads on.
func (s *session) awaitPorts(t *testing.T, code string) {
	if !regexp.MustCompile(`(?m) &( +#.*)?$`).MatchString(code) {
		return
	}
	for _, found := range port.FindAllStringSubmatch(code, -1) {
		require.Eventually(t, func() bool {
			conn, err := net.Dial("tcp", "127.0.0.1:"+found[1])
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		}, time.Minute, 20*time.Millisecond, "nothing listens on %s after\n%s", found[1], code)
	}
}

var readyLine = regexp.MustCompile(`psql 'host=[^\n"]*`)

// serve starts a proxy, and connects from another terminal as its log says.
func (s *session) serve(t *testing.T, b snippet, code string) {
	log := filepath.Join(t.TempDir(), "log")
	_, err := s.bash(t, strings.TrimSpace(code)+" 2>'"+log+"' &", false)
	require.NoError(t, err)
	var line string
	require.Eventually(t, func() bool {
		text, _ := os.ReadFile(log)
		line = string(readyLine.Find(text))
		return line != "" || bytes.Contains(text, []byte("aadpool: "))
	}, time.Minute, 10*time.Millisecond, "%s:%d: the log does not say how to connect", b.page, b.line)
	text, _ := os.ReadFile(log)
	require.NotEmpty(t, line, "%s:%d: %s", b.page, b.line, text)
	out, err := s.bash(t, line+" -Atc 'select current_user'", false)
	require.NoError(t, err, "%s:%d: %s\n%s", b.page, b.line, line, out)
	assert.Equal(t, "orders-api", strings.TrimSpace(out))
}

// compile has the page's Go code compiled in the reader's module, if the page has told to get packages.
func (s *session) compile(t *testing.T, service string) {
	gomod, err := os.ReadFile(filepath.Join(service, "go.mod"))
	require.NoError(t, err)
	if !strings.Contains(string(gomod), "\trequire") && !strings.Contains(string(gomod), "require (") {
		return
	}
	for i, snippet := range snippetsOf(t, s.page) {
		file, err := snippet.file()
		require.NoError(t, err)
		dir := filepath.Join(service, fmt.Sprintf("snippet%d", i))
		require.NoError(t, os.Mkdir(dir, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, snippet.fileName()), []byte(file), 0o644))
	}
	s.pwd = service
	out, err := s.bash(t, "go vet -mod=mod ./...", false)
	assert.NoError(t, err, "%s:\n%s", s.page, out)
}
