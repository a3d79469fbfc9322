/* The program of the pause container.
 *
 * It holds the namespaces that the containers of a task share, and does nothing else: it takes in the children that
 * lost their parents (it is process 1 where processes are shared), and ends on SIGTERM or SIGINT. No C library, so that
 * its image is this file alone; signals are blocked and fetched, so that no handler is needed.
 */

#if defined(__x86_64__)

enum { SYS_RT_SIGPROCMASK = 14, SYS_WAIT4 = 61, SYS_RT_SIGTIMEDWAIT = 128, SYS_EXIT_GROUP = 231 };

__asm__(".globl _start\n_start:\n  xor %ebp, %ebp\n  and $-16, %rsp\n  call run\n");

static long syscall4(long number, long a, long b, long c, long d)
{
    long answer;
    register long fourth __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(answer)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
    return answer;
}

#elif defined(__aarch64__)

enum { SYS_EXIT_GROUP = 94, SYS_RT_SIGPROCMASK = 135, SYS_RT_SIGTIMEDWAIT = 137, SYS_WAIT4 = 260 };

__asm__(".globl _start\n_start:\n  bl run\n");

static long syscall4(long number, long a, long b, long c, long d)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}

#else
#error "the pause container is written for x86_64 and aarch64"
#endif

enum { SIG_BLOCK = 0, SIGINT = 2, SIGTERM = 15, SIGCHLD = 17, WNOHANG = 1 };

#define BIT(signal) (1UL << ((signal) - 1))

__attribute__((noreturn, used)) void run(void)
{
    const unsigned long ours = BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGCHLD);
    syscall4(SYS_RT_SIGPROCMASK, SIG_BLOCK, (long)&ours, 0, sizeof ours);
    for (;;) {
        long signal = syscall4(SYS_RT_SIGTIMEDWAIT, (long)&ours, 0, 0, sizeof ours);
        if (signal == SIGINT || signal == SIGTERM)
            syscall4(SYS_EXIT_GROUP, 0, 0, 0, 0);
        while (syscall4(SYS_WAIT4, -1, 0, WNOHANG, 0) > 0)
            ;
    }
}
