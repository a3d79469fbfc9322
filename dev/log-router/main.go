// A log router for tests: takes output as Fluent Bit does (Forward protocol, decoded by a library that nobody of this
// project wrote), does what the configuration at Fluent Bit's own path says, and prints records as JSON lines.
//
// It knows what the tests use of Fluent Bit: inputs forward and tcp, filters grep and record_modifier, outputs stdout and
// null, @INCLUDE, and ${VARIABLES}. Anything else in the configuration ends it, so that no test passes by chance.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/IBM/fluent-forward-go/fluent/protocol"
	"github.com/tinylib/msgp/msgp"
)

const configuration = "/fluent-bit/etc/fluent-bit.conf"

type property struct{ key, value string }

type section struct {
	kind       string
	properties []property
}

// get returns the first value of a key, whose case does not matter.
func (s section) get(key string) string {
	for _, p := range s.properties {
		if strings.EqualFold(p.key, key) {
			return p.value
		}
	}
	return ""
}

func (s section) only(keys ...string) error {
	for _, p := range s.properties {
		known := false
		for _, key := range append(keys, "Name") {
			known = known || strings.EqualFold(key, p.key)
		}
		if !known {
			return fmt.Errorf("[%s] %s: unknown property %s", s.kind, s.get("Name"), p.key)
		}
	}
	return nil
}

func parse(path string) ([]section, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var sections []section
	for number, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "@INCLUDE "):
			included, err := parse(strings.TrimSpace(strings.TrimPrefix(line, "@INCLUDE ")))
			if err != nil {
				return nil, err
			}
			sections = append(sections, included...)
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			sections = append(sections, section{kind: strings.Trim(line, "[]")})
		default:
			key, value, found := strings.Cut(line, " ")
			if !found || len(sections) == 0 {
				return nil, fmt.Errorf("%s:%d: %q is no property", path, number+1, line)
			}
			last := &sections[len(sections)-1]
			value = os.ExpandEnv(strings.TrimSpace(value))
			last.properties = append(last.properties, property{key, value})
		}
	}
	return sections, nil
}

type router struct {
	filters, outputs []section
	turn             sync.Mutex
}

func matches(s section, tag string) bool {
	prefix, glob := strings.CutSuffix(s.get("Match"), "*")
	return tag == prefix || glob && strings.HasPrefix(tag, prefix)
}

// keeps applies a filter to a record, and says whether it goes on.
func keeps(filter section, record map[string]any) bool {
	for _, p := range filter.properties {
		field, rest, _ := strings.Cut(p.value, " ")
		switch strings.ToLower(p.key) {
		case "record":
			record[field] = rest
		case "regex", "exclude":
			found := regexp.MustCompile(rest).MatchString(fmt.Sprint(record[field]))
			if found != strings.EqualFold(p.key, "regex") {
				return false
			}
		}
	}
	return true
}

func (r *router) route(tag string, seconds int64, record map[string]any) {
	r.turn.Lock()
	defer r.turn.Unlock()
	for _, filter := range r.filters {
		if matches(filter, tag) && !keeps(filter, record) {
			return
		}
	}
	for _, output := range r.outputs {
		if !matches(output, tag) || output.get("Name") == "null" {
			continue
		}
		if key := output.get("json_date_key"); key != "" {
			record[key] = seconds
		}
		record["tag"] = tag
		line, err := json.Marshal(record)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(line))
	}
}

// event reads one event in one of the two message modes, which are those that Docker sends.
func event(raw []byte) (tag string, seconds int64, record any, err error) {
	_, rest, err := msgp.ReadArrayHeaderBytes(raw)
	if err != nil {
		return "", 0, nil, err
	}
	if rest, err = msgp.Skip(rest); err != nil {
		return "", 0, nil, err
	}
	switch kind := msgp.NextType(rest); kind {
	case msgp.IntType, msgp.UintType:
		var message protocol.Message
		_, err = message.UnmarshalMsg(raw)
		return message.Tag, message.Timestamp, message.Record, err
	case msgp.ExtensionType:
		var message protocol.MessageExt
		_, err = message.UnmarshalMsg(raw)
		return message.Tag, message.Timestamp.Unix(), message.Record, err
	default:
		return "", 0, nil, fmt.Errorf("not in message mode: %v after the tag", kind)
	}
}

func (r *router) serve(connection net.Conn) {
	defer connection.Close()
	reader := msgp.NewReader(connection)
	for {
		var raw msgp.Raw
		if err := raw.DecodeMsg(reader); err != nil {
			if !errors.Is(err, io.EOF) {
				log.Print(err)
			}
			return
		}
		tag, seconds, record, err := event(raw)
		if err != nil {
			log.Print(err)
			return
		}
		fields, fine := record.(map[string]any)
		if !fine {
			log.Printf("a record of %T", record)
			return
		}
		for key, value := range fields {
			if bytes, is := value.([]byte); is {
				fields[key] = string(bytes)
			}
		}
		r.route(tag, seconds, fields)
	}
}

func listen(input section) (net.Listener, error) {
	if path := input.get("unix_path"); path != "" {
		// Of a run before.
		_ = os.Remove(path)
		return net.Listen("unix", path)
	}
	return net.Listen("tcp", net.JoinHostPort(input.get("Listen"), input.get("Port")))
}

func run() error {
	sections, err := parse(configuration)
	if err != nil {
		return err
	}
	r := &router{}
	known := map[string][]string{
		"INPUT forward":          {"unix_path", "Mem_Buf_Limit", "Listen", "Port"},
		"INPUT tcp":              {"Tag", "Listen", "Port"},
		"FILTER grep":            {"Match", "Regex", "Exclude"},
		"FILTER record_modifier": {"Match", "Record"},
		"OUTPUT stdout":          {"Match", "json_date_key"},
		"OUTPUT null":            {"Match"},
	}
	var inputs []section
	for _, s := range sections {
		keys, is := known[s.kind+" "+s.get("Name")]
		if !is {
			return fmt.Errorf("unknown: [%s] %s", s.kind, s.get("Name"))
		}
		if err := s.only(keys...); err != nil {
			return err
		}
		switch s.kind {
		case "INPUT":
			inputs = append(inputs, s)
		case "FILTER":
			r.filters = append(r.filters, s)
		case "OUTPUT":
			r.outputs = append(r.outputs, s)
		}
	}
	failed := make(chan error)
	for _, input := range inputs {
		listener, err := listen(input)
		if err != nil {
			return err
		}
		go func() {
			for {
				connection, err := listener.Accept()
				if err != nil {
					failed <- err
					return
				}
				if input.get("Name") == "tcp" {
					connection.Close()
					continue
				}
				go r.serve(connection)
			}
		}()
	}
	return <-failed
}

func main() {
	log.SetFlags(0)
	log.Fatal(run())
}
