# fish completion of kubectl-tally: kubectl tally completion fish | source
function __kubectl_tally_complete
    set -l words (commandline -opc)
    set -e words[1]
    set -l last (commandline -ct)
    set -l answer (kubectl-tally __complete -- $words "$last" 2>/dev/null)
    test (count $answer) -gt 0; or return
    set -l directive $answer[-1]
    set -e answer[-1]
    if test "$directive" = ':0'
        __fish_complete_path "$last"
    else if test (count $answer) -gt 0
        printf '%s\n' $answer
    end
end
complete -c kubectl-tally -f -a '(__kubectl_tally_complete)'
