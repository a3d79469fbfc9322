package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
	"sigs.k8s.io/yaml"
)

// An object, or a part of one.
type tree = map[string]any

// Runs the cases of a folder that is laid out like Argo CD's `resource_customizations`: GROUP/KIND/health.lua with health_test.yaml
// beside it, GROUP/KIND/actions/discovery.lua and actions/NAME/action.lua with actions/action_test.yaml. KIND `_` is every kind.
func argoTest(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: gitops argo-test FOLDER")
	}
	passed, failed := 0, []error{}
	said := func(name string, err error) {
		if err == nil {
			passed++
			fmt.Printf("ok %s\n", name)
			return
		}
		failed = append(failed, fmt.Errorf("%s: %w", name, err))
	}
	err := filepath.WalkDir(args[0], func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		folder := filepath.Dir(path)
		name, err := filepath.Rel(args[0], folder)
		if err != nil {
			return err
		}
		switch entry.Name() {
		case "health.lua":
			return healthCases(name, folder, said)
		case "discovery.lua":
			return actionCases(name, folder, said)
		}
		return nil
	})
	if err == nil && passed+len(failed) == 0 {
		err = fmt.Errorf("%s has no cases", args[0])
	}
	return errors.Join(append(failed, err)...)
}

func healthCases(name, folder string, said func(string, error)) error {
	var cases struct {
		Tests []struct {
			InputPath    string `json:"inputPath"`
			HealthStatus tree   `json:"healthStatus"`
		} `json:"tests"`
	}
	if err := fromYAML(filepath.Join(folder, "health_test.yaml"), &cases); err != nil {
		return err
	}
	for _, test := range cases.Tests {
		said(name+" health of "+test.InputPath, func() error {
			var object tree
			if err := fromYAML(filepath.Join(folder, test.InputPath), &object); err != nil {
				return err
			}
			got, err := run(filepath.Join(folder, "health.lua"), object)
			if err != nil {
				return err
			}
			return same(got, test.HealthStatus)
		}())
	}
	return nil
}

type action struct {
	Name     string `json:"name"`
	Disabled bool   `json:"disabled"`
}

func actionCases(name, folder string, said func(string, error)) error {
	var cases struct {
		DiscoveryTests []struct {
			InputPath string   `json:"inputPath"`
			Result    []action `json:"result"`
		} `json:"discoveryTests"`
		ActionTests []struct {
			Action             string `json:"action"`
			InputPath          string `json:"inputPath"`
			ExpectedOutputPath string `json:"expectedOutputPath"`
		} `json:"actionTests"`
	}
	if err := fromYAML(filepath.Join(folder, "action_test.yaml"), &cases); err != nil {
		return err
	}
	untried := map[string]bool{}
	for _, test := range cases.DiscoveryTests {
		said(name+" offered to "+test.InputPath, func() error {
			var object tree
			if err := fromYAML(filepath.Join(folder, test.InputPath), &object); err != nil {
				return err
			}
			got, err := run(filepath.Join(folder, "discovery.lua"), object)
			if err != nil {
				return err
			}
			offered, err := actions(got)
			for _, action := range offered {
				untried[action.Name] = true
			}
			if err != nil {
				return err
			}
			slices.SortFunc(test.Result, byName)
			return same(offered, test.Result)
		}())
	}
	for _, test := range cases.ActionTests {
		delete(untried, test.Action)
		said(name+" "+test.Action+" of "+test.InputPath, func() error {
			var object tree
			if err := fromYAML(filepath.Join(folder, test.InputPath), &object); err != nil {
				return err
			}
			var wanted any
			if err := fromYAML(filepath.Join(folder, test.ExpectedOutputPath), &wanted); err != nil {
				return err
			}
			got, err := run(filepath.Join(folder, test.Action, "action.lua"), object)
			if err != nil {
				return err
			}
			return sameObjects(got, wanted, object)
		}())
	}
	for action := range untried {
		said(name+" "+action, errors.New("it is offered, and no case tries it"))
	}
	return nil
}

func byName(a, b action) int { return strings.Compare(a.Name, b.Name) }

// What discovery.lua returned.
func actions(value any) ([]action, error) {
	fields, ok := value.(tree)
	if !ok {
		return nil, fmt.Errorf("%v is no table of actions", value)
	}
	var found []action
	for name, about := range fields {
		fields, ok := about.(tree)
		if !ok {
			return nil, fmt.Errorf("%s is %v and no table", name, about)
		}
		disabled, _ := fields["disabled"].(bool)
		found = append(found, action{name, disabled})
	}
	slices.SortFunc(found, byName)
	return found, nil
}

// An action gives the changed object, or a list of what is to be created; what is expected of the latter has another name for the object.
func sameObjects(got, wanted any, source tree) error {
	if _, ok := got.(tree); ok {
		object, _ := restored(got, source).(tree)
		wanted, _ := wanted.(tree)
		return same(timeless(object), timeless(wanted))
	}
	list, _ := got.([]any)
	expected, ok := wanted.([]any)
	if !ok || len(list) != len(expected) {
		return fmt.Errorf("it is %s and not %s", text(got), text(wanted))
	}
	for n := range list {
		made, wanted := list[n].(tree), expected[n].(tree)
		resource, ok := made["resource"].(tree)
		object, is := wanted["unstructuredObj"].(tree)
		if !ok || !is || made["operation"] != wanted["k8sOperation"] {
			return fmt.Errorf("it is %s and not %s", text(made), text(wanted))
		}
		// Its name tells when.
		name, _ := resource["metadata"].(tree)["name"].(string)
		of, _ := source["metadata"].(tree)["name"].(string)
		long, _ := object["metadata"].(tree)["name"].(string)
		if !strings.HasPrefix(name, of+"-") || len(name) != len(long) {
			return fmt.Errorf("%s is no name like %s", name, long)
		}
		resource["metadata"].(tree)["name"] = long
		if err := same(resource, object); err != nil {
			return err
		}
	}
	return nil
}

// A table without anything comes back as a list. Where the object had a map, Argo CD puts it back, but only in changed objects.
func restored(value, before any) any {
	switch value := value.(type) {
	case tree:
		before, _ := before.(tree)
		for key, inner := range value {
			value[key] = restored(inner, before[key])
		}
	case []any:
		if before, ok := before.(tree); ok && len(value) == 0 {
			return before
		}
		before, _ := before.([]any)
		for n := range min(len(value), len(before)) {
			value[n] = restored(value[n], before[n])
		}
	}
	return value
}

// Without the time of a restart, which has to be one.
func timeless(object tree) tree {
	const restarted = "tallyman.dev/restartedAt"
	metadata, _ := object["metadata"].(tree)
	annotations, _ := metadata["annotations"].(tree)
	if at, ok := annotations[restarted].(string); ok {
		if _, err := time.Parse(time.RFC3339, at); err == nil {
			annotations[restarted] = "then"
		}
	}
	return object
}

func same(got, wanted any) error {
	if text(got) != text(wanted) {
		return fmt.Errorf("it is %s and not %s", text(got), text(wanted))
	}
	return nil
}

func text(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func fromYAML(file string, into any) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.UnmarshalStrict(content, into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// Runs a script as Argo CD does: what it returns.
func run(file string, object any) (any, error) {
	script, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	// No library that reaches outside, but for dates.
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, "os": safeOs,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), NRet: 0, Protect: true}, lua.LString(name)); err != nil {
			return nil, err
		}
	}
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoString(string(script)); err != nil {
		return nil, err
	}
	return fromLua(state.Get(-1)), nil
}

func safeOs(state *lua.LState) int {
	table := state.NewTable()
	table.RawSetString("date", state.NewFunction(func(state *lua.LState) int {
		format := state.CheckString(1)
		now := time.Now()
		if utc, ok := strings.CutPrefix(format, "!"); ok {
			format, now = utc, now.UTC()
		}
		for of, is := range map[string]string{
			"%y": "06", "%Y": "2006", "%m": "01", "%d": "02", "%H": "15", "%M": "04", "%S": "05", "%X": "15:04:05",
		} {
			format = strings.ReplaceAll(format, of, now.Format(is))
		}
		state.Push(lua.LString(format))
		return 1
	}))
	state.SetGlobal("os", table)
	state.Push(table)
	return 1
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, inner := range value {
			table.RawSetString(key, toLua(state, inner))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, inner := range value {
			table.Append(toLua(state, inner))
		}
		return table
	case string:
		return lua.LString(value)
	case float64:
		return lua.LNumber(value)
	case bool:
		return lua.LBool(value)
	}
	return lua.LNil
}

func fromLua(value lua.LValue) any {
	switch value := value.(type) {
	case *lua.LTable:
		if value.Len() > 0 {
			var list []any
			value.ForEach(func(_, inner lua.LValue) { list = append(list, fromLua(inner)) })
			return list
		}
		fields := map[string]any{}
		value.ForEach(func(key, inner lua.LValue) { fields[key.String()] = fromLua(inner) })
		if len(fields) == 0 {
			return []any{}
		}
		return fields
	case lua.LString:
		return string(value)
	case lua.LNumber:
		return float64(value)
	case lua.LBool:
		return bool(value)
	}
	return nil
}
