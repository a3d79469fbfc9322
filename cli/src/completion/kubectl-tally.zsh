#compdef kubectl-tally
# zsh completion of kubectl-tally: source <(kubectl tally completion zsh), or save it as _kubectl-tally in a folder of $fpath.
_kubectl-tally() {
    local line directive=
    local -a candidates
    for line in "${(@f)$(kubectl-tally __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
            :*) directive=$line ;;
            ?*) candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
        esac
    done
    if (( ${#candidates} )); then
        _describe 'kubectl tally' candidates
    elif [[ $directive == :0 ]]; then
        _files
    fi
}
if [[ ${funcstack[1]} == _kubectl-tally ]]; then
    _kubectl-tally "$@"
else
    compdef _kubectl-tally kubectl-tally
fi
