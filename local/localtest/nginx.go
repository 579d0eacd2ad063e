package localtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// whole is what nginx needs around a server: nothing of it is outside the test's folder.
const whole = `
daemon off;
pid %[1]s/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
%[2]s}
`

var (
	nginxBlock = regexp.MustCompile("(?ms)^```nginx\n(.*?)^```$")
	nginxTLS   = regexp.MustCompile(`(?m)^\s*(server_name|ssl_certificate|ssl_certificate_key) .*\n`)
)

// Nginx starts nginx in front of an API, with the very configuration that OPERATIONS.md
// gives but for TLS, on a port of an address, until the test ends. It answers its URL. It
// skips the test where nginx is not installed.
func Nginx(t testing.TB, address, api string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/nginx"); err != nil { // not in everybody's PATH
			t.Skip("NOT TRIED behind nginx: it is not installed (apt-get install nginx-light)")
		}
	}
	operations, err := os.ReadFile(filepath.Join(Root(t), "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := nginxBlock.FindSubmatch(operations)
	if block == nil {
		t.Fatal("OPERATIONS.md has no configuration for nginx")
	}
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	server := strings.NewReplacer("listen 443 ssl;", "listen "+address+";", "http://127.0.0.1:8080", api).
		Replace(nginxTLS.ReplaceAllString(string(block[1]), ""))
	dir := t.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, whole, dir, server), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-p", dir, "-c", conf)
	if os.Getuid() == 0 { // its workers must reach the folder
		cmd.Args = append(cmd.Args, "-g", "user root;")
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	Await(t, "nginx to listen", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return "http://" + address
}
