# bash completion of kubectl-tally: source <(kubectl tally completion bash)
_kubectl_tally() {
    local line directive=
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :*) directive=$line ;;
            *) COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done < <(kubectl-tally __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ $directive == :0 ]]; then
        compopt -o default 2>/dev/null
    fi
}
complete -F _kubectl_tally kubectl-tally
